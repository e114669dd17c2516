"""Generated histories in a real catalog, with the real retriever and features objects over it, in process.

Two index generations stand side by side: g1 in memory, g2 in Qdrant Edge. The encoder and the generator are fakes.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from sqlalchemy import select

from pipelines.advance import Readers
from pipelines.encode import encode, missing, wanted
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.records import DocumentIn, Generation
from services.catalog.state import VIEWS, ensure_generation, resolve_moment
from services.catalog.tables import events
from services.catalog.vectors import VectorFiles
from services.common.errors import InvalidDocument
from services.common.moment import OPEN_END, OPEN_START, Moment, now, parse_instant
from services.common.nodes.generator import Prompt
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.nodes import Nodes
from tests.fakes.encoder import FakeEncoder
from tests.fakes.generator import FakeGenerator
from tests.fakes.retriever import index_directory, retriever_over
from tests.property.oracle import Place, Row, Writer

MODEL = "all-MiniLM-L6-v2"
GENERATIONS = {"memory": Generation("g1", MODEL, 64), "edge": Generation("g2", MODEL, 64)}
STAGES = 4
"""Transactions a collection is recorded in."""
SPARSE = 8
"""Histories of the collection where often nothing is visible."""
FIRST_RECORD, DAY = parse_instant("2001-01-01"), 86_400_000_000


def tattle(prompt: Prompt) -> str:
    """A generator that repeats its evidence, says it in other words, makes something up, or says nothing of use."""
    asked = prompt.messages[-1].content
    dice = random.Random(asked)
    quotes = [line.partition(": ")[2] for line in asked.splitlines() if line.startswith("[")]
    quote = dice.choice(quotes)
    made_up = f"The keeper of Dunmore{dice.randint(0, 50)} is Alba w{dice.randint(1, 2_000)}. [1]"
    said = [made_up, quote, quote[4:], "Certainly so.", "No keeper is known. [1]"]
    return " ".join(dice.choices(said, k=3))


@dataclass(frozen=True, eq=False)
class Shown:
    """Something asked once."""

    kind: str
    backend: str
    place: Place
    moment: Moment
    text: str
    filters: Mapping[str, Sequence[str]]

    @property
    def question(self) -> Question:
        where = (self.place.tenant, self.place.collection)
        return Question("again", *where, self.text, self.moment, GENERATIONS[self.backend], self.filters)


@dataclass
class World:
    """A catalog with its places, and the nodes of both backends over it."""

    dice: random.Random
    catalog: Database
    files: VectorFiles
    places: list[Place]
    nodes: dict[str, Nodes]
    encoder: FakeEncoder
    looked_up: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    shown: dict[Shown, object] = field(default_factory=dict)

    async def record(self, place: Place, rows: Sequence[Row]) -> None:
        """One transaction, as ingestion makes it; the oracle then reads each change's record time from the log."""
        items = wanted(rows, place.tenant, place.collection)
        with self.catalog.read() as tx:
            texts = missing(tx, items, MODEL)
        file = VectorFile(str(uuid.UUID(int=self.dice.getrandbits(128))), MODEL, list(texts))
        if texts:
            self.files.write(file.file_id, file.item_ids, await encode(self.encoder, MODEL, texts.values(), 64))
        before = max(place.records, default=OPEN_START)
        with self.catalog.write() as tx:
            recorder = Recorder(tx, place.tenant, place.collection, place.history_job)
            new = [_told(recorder, row) for row in rows]
            newest = recorder.close(file)
        clock = iter(self._recorded(place, before))
        for row, is_new in zip(rows, new, strict=True):
            before = next(clock) if is_new else before
            assert place.told(row, before if is_new else before + 1) == is_new, (str(place), row)
        assert next(clock, None) is None and place.records == sorted(set(place.records)) and newest == before <= now()

    def _recorded(self, place: Place, after: int) -> list[int]:
        table = events.c
        here = (
            (table.tenant == place.tenant)
            & (table.collection == place.collection)
            & table.recorded_at.between(after + 1, OPEN_END)
        )
        with self.catalog.read() as tx:
            return list(tx.execute(select(table.recorded_at).where(here).order_by(table.recorded_at)).scalars())

    def readers(self, backend: str) -> Readers:
        nodes = self.nodes[backend]
        return Readers(self.catalog, self.files, nodes.retriever, nodes.features)

    async def advance(self, backend: str, place: Place, to: int) -> None:
        await self.readers(backend).advance(GENERATIONS[backend], place.tenant, place.collection, to)

    def moment(self, backend: str, place: Place, as_of: int, known_at: int | None) -> Moment:
        with self.catalog.read() as tx:
            return resolve_moment(tx, place.tenant, place.collection, GENERATIONS[backend], as_of, known_at)


def _told(recorder: Recorder, row: Row) -> bool:
    try:
        return recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row)
    except InvalidDocument:
        assert row.valid_from is None and row.valid_to is not None, row
        return False


@contextmanager
def opened(seed: int, directory: Path) -> Iterator[World]:
    dice, encoder = random.Random(seed), FakeEncoder()
    catalog = Database(f"sqlite:///{directory / f'catalog-{seed}.db'}")
    with catalog.write() as tx:
        ensure_generation(tx, GENERATIONS["memory"])
    places = [Place(tenant, name) for tenant in ("acme", "rival", "third") for name in ("notes", "other")]
    places += [Place("acme", "sparse"), Place("acme", "history", history_job="job-1")]
    with index_directory() as index:
        retrievers = {name: retriever_over(name, index) for name in GENERATIONS}
        features = PointInTimeFeatures(MemoryBackend())
        nodes = {
            name: Nodes(catalog, encoder, retriever, features, FakeGenerator(tattle))
            for name, retriever in retrievers.items()
        }
        yield World(dice, catalog, VectorFiles(directory / f"vectors-{seed}"), places, nodes, encoder)
    encoder.close()
    catalog.close()


async def advance_somewhat(world: World, backend: str, place: Place) -> None:
    """All the way, not at all, half the way, or one reader alone."""
    dice, readers = world.dice, world.readers(backend)
    where, newest = (place.tenant, place.collection), place.records[-1]
    match dice.randrange(5):
        case 0:
            await world.advance(backend, place, newest)
        case 1:
            await world.advance(backend, place, dice.choice(place.records))
        case 2:
            await readers.advance_index(GENERATIONS[backend], *where, newest)
        case 3:
            await readers.advance_view(dice.choice(VIEWS), *where, newest)


def scheduled(dice: random.Random, places: Sequence[Place], histories: int) -> dict[str, list[list[Row]]]:
    """The transactions of every place: its histories shuffled together, each in its own order."""
    writer = Writer(dice)
    wide = [place for place in places if place.collection != "sparse"]
    schedule: dict[str, list[list[Row]]] = {}
    for place in places:
        number = -(-histories // len(wide)) if place in wide else SPARSE
        made = [iter(writer.history(place, one)) for one in range(number)]
        turns = [one for one in made for _ in range(6)]
        dice.shuffle(turns)
        rows = [row for turn in turns if (row := next(turn, None)) is not None]
        rows = list(with_past(dice, rows)) if place.history_job else rows
        cuts = sorted(dice.sample(range(1, len(rows)), STAGES - 1))
        schedule[str(place)] = [rows[start:end] for start, end in pairwise([0, *cuts, len(rows)])]
    return schedule


def with_past(dice: random.Random, rows: Sequence[Row]) -> Iterator[Row]:
    """The rows as an imported history: sorted by record time, some of one instant."""
    recorded = FIRST_RECORD
    for row in rows:
        recorded += dice.choice([0, 0, 1, 7, DAY, 30 * DAY])
        yield replace(row, recorded_at=recorded)
