"""The catalog, and all that it tells its readers, against the naive replay of the log; on SQLite and on PostgreSQL.

Generated histories of documents and facts share one database, in several tenants and collections. At random moments
every document and question of a collection is looked up in the catalog itself, among the points told to the index and
among the statements told to the features. ALMANAC_PROPERTY_ROWS up to 1000 is the number of histories, half of them on
each database; more is the number of rows looked up on each, with 1000 histories.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from pipelines.encode import wanted
from services.catalog.changes import feature_changes, index_changes
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.reading import fact_at, passages_at
from services.catalog.records import DocumentIn, FactIn, Generation, PassageIn
from services.catalog.tables import events
from services.catalog.vectors import VectorFiles
from services.common.batches import batched
from services.common.errors import InvalidDocument
from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span, parse_instant
from services.common.nodes.features import DOCUMENTS, FACTS, FeatureRow
from services.common.nodes.retriever import Point, Target
from services.common.nodes.scope import Stretch
from tests.conftest import ROWS
from tests.property.naive import Log

HISTORIES = 1_000
GENERATION = Generation("g1", "test", 2)
A_TRANSACTION = 40
ROUNDS = 10
"""How often each history is looked up at least."""
DAY = 86_400_000_000
FIRST_RECORD = parse_instant("2020-01-01")
YEARS = [parse_instant(f"{year}-03-01") for year in ("0300", "1150", "1901", "1950", "2019", "2300")]
AXIS = sorted([OPEN_START, OPEN_START + 1, *(year + step for year in YEARS for step in (0, 1, 5)), OPEN_END - 1])
KINDS = ("new", "later", "late", "correction", "again", "undated", "ended now", "ended", "withdrawn", "refused", "idle")


@dataclass(frozen=True)
class End:
    """Withdraw a document or the answers to a question over a span."""

    of: DocumentIn | FactIn
    valid_from: int | None
    valid_to: int | None
    recorded_at: int | None = None


Row = DocumentIn | FactIn | End
ValidTime = tuple[int | None, int | None]


@dataclass
class Place:
    """One collection: the logs, what was told to its readers, and how far that goes."""

    tenant: str
    name: str
    history_job: str = ""
    documents: dict[str, Log] = field(default_factory=lambda: defaultdict(Log))
    questions: dict[str, Log] = field(default_factory=lambda: defaultdict(Log))
    versions: dict[str, DocumentIn] = field(default_factory=dict)
    facts: dict[str, FactIn] = field(default_factory=dict)
    vectors: set[str] = field(default_factory=set)
    records: list[int] = field(default_factory=lambda: [OPEN_START])
    told: int = OPEN_START
    points: dict[str, dict[str, Point]] = field(default_factory=lambda: defaultdict(dict))
    owner: dict[str, str] = field(default_factory=dict)
    statements: dict[str, dict[str, list[FeatureRow]]] = field(
        default_factory=lambda: {view: defaultdict(list) for view in (FACTS, DOCUMENTS)}
    )

    def log_of(self, row: DocumentIn | FactIn) -> Log:
        if isinstance(row, DocumentIn):
            return self.documents[row.doc_id]
        return self.questions[row.question_key(self.tenant, self.name)]

    def take(self, row: Row, recorded: int) -> bool:
        """Take a row into its log at this record time. Raises ValueError for an empty span."""
        if isinstance(row, End):
            return self.log_of(row.of).end(row.valid_from, row.valid_to, recorded)
        if isinstance(row, DocumentIn):
            content, start = row.version_id(self.tenant, self.name), row.valid_from
            self.versions.setdefault(content, row)
        else:
            content, start = row.fact_id(self.tenant, self.name), row.valid_from
            start = OPEN_START if start is None else start
            self.facts.setdefault(content, row)
        return self.log_of(row).say(start, row.valid_to, content, recorded)


def _over(row: DocumentIn | FactIn, span: ValidTime) -> DocumentIn | FactIn:
    return replace(row, valid_from=span[0], valid_to=span[1])


class Writer:
    """Makes up histories; a version shares passages with others of its document."""

    def __init__(self, dice: random.Random) -> None:
        self._dice, self._words = dice, 0

    def history(self, number: int) -> Iterator[Row]:
        make = self._document if self._dice.random() < 0.6 else self._fact
        said: list[DocumentIn | FactIn] = []
        undated = self._dice.random() < 0.2
        for _ in range(self._dice.choice([1, 2, 3, 4, 5, 6])):
            if said and self._dice.random() < 0.3:
                yield End(self._dice.choice(said), *self._span())
                continue
            span = (None, None) if undated else self._span()
            said.append(self._again(said, span) if said and self._dice.random() < 0.35 else _over(make(number), span))
            yield said[-1]

    def _again(self, said: Sequence[DocumentIn | FactIn], span: ValidTime) -> DocumentIn | FactIn:
        """What was said once, as it was, over another span, or with other metadata alone."""
        row = self._dice.choice(said)
        match self._dice.randrange(3):
            case 0:
                return _over(row, span)
            case 1 if isinstance(row, DocumentIn):
                return replace(row, metadata={"k": self._dice.choice("ab")})
        return row

    def _span(self) -> ValidTime:
        start, end = sorted(self._dice.sample(AXIS, 2))
        return self._dice.choice([None, start, start, start]), self._dice.choice([None, end])

    def _word(self) -> str:
        self._words += 1
        return f"w{self._words}"

    def _document(self, number: int) -> DocumentIn:
        known = [f"{number}-{part}" for part in "abc"]
        parts = [*self._dice.choices(known, k=self._dice.randint(0, 3)), self._word()]
        self._dice.shuffle(parts)
        starts = [sum(len(part) + 1 for part in parts[:place]) for place in range(len(parts))]
        passages = tuple(
            PassageIn(place, (), start, start + len(part), f"T {part}")
            for place, (start, part) in enumerate(zip(starts, parts, strict=True))
        )
        metadata = {"k": self._dice.choice("ab")} if self._dice.random() < 0.8 else {}
        return DocumentIn(f"d{number}", "T", " ".join(parts), metadata=metadata, passages=passages)

    def _fact(self, number: int) -> FactIn:
        return FactIn(f"Q{number}?", self._dice.choice(["yes", "no", self._word()]))


@dataclass
class World:
    """A catalog, its vector files and its places."""

    dice: random.Random
    catalog: Database
    files: VectorFiles
    places: list[Place]
    looked_up: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def record(self, place: Place, rows: Sequence[Row]) -> None:
        """One transaction; the record time of each change is read from the catalog's own log of events."""
        with self.catalog.write() as tx:
            recorder = Recorder(tx, place.tenant, place.name, place.history_job)
            outcomes = [_told(recorder, place, row) for row in rows]
            newest = recorder.close(self._vectors(place, rows))
            table = events.c
            here = (table.tenant == place.tenant) & (table.collection == place.name)
            query = select(table.recorded_at).where(here, table.recorded_at > place.records[-1])
            clock = list(tx.execute(query.order_by(table.recorded_at)).scalars())
        assert len(clock) == len(set(clock)) == outcomes.count(True)
        for row, outcome in zip(rows, outcomes, strict=True):
            recorded = clock.pop(0) if outcome else max(place.records[-1] + 1, row.recorded_at or OPEN_START)
            self.seen[_kind(place, row, outcome)] += 1
            try:
                assert place.take(row, recorded) == outcome, row
            except ValueError:
                assert outcome is None, row
            place.records += [recorded] if outcome else []
        assert newest >= place.records[-1]

    def _vectors(self, place: Place, rows: Sequence[Row]) -> VectorFile:
        said = [row for row in rows if not isinstance(row, End)]
        items = sorted(set(wanted(said, place.tenant, place.name)) - place.vectors)
        file = VectorFile(f"{self.dice.getrandbits(64):x}", GENERATION.encoder, items)
        if items:
            self.files.write(file.file_id, items, np.ones((len(items), 2), np.float32))
        place.vectors |= set(items)
        return file

    def tell(self, place: Place, to: int) -> None:
        """Apply the stretch up to there as the readers do."""
        stretch = Stretch(place.tenant, place.name, place.told, to)
        with self.catalog.read() as tx:
            for batch in index_changes(tx, self.files, GENERATION, stretch):
                for point in batch.upserts:
                    if point.target is Target.PASSAGES:
                        place.points[point.doc_id][point.point_id] = point
                        place.owner[point.point_id] = point.doc_id
                for close in batch.closes:
                    point = place.points[place.owner[close.point_id]][close.point_id]
                    recorded = Span(point.extent.recorded.start, close.recorded_to)
                    place.points[point.doc_id][close.point_id] = replace(
                        point, extent=Extent(point.extent.valid, recorded)
                    )
            for view, rows in place.statements.items():
                for said in feature_changes(tx, view, stretch):
                    for row in said:
                        rows[row.entity].append(row)
        place.told = to

    def check(self, place: Place, moment: Moment) -> None:
        """Every document and question of the place at the moment, in all that shows them."""
        versions = {name: log.at(moment.as_of, moment.known_at) for name, log in place.documents.items()}
        answers = {name: log.at(moment.as_of, moment.known_at) for name, log in place.questions.items()}
        self._check_located(place, moment, versions)
        self._check_points(place, moment, versions)
        for view, expected, content in ((DOCUMENTS, versions, "version_id"), (FACTS, answers, "fact_id")):
            for entity, said in expected.items():
                assert stated(place.statements[view][entity], moment, content) == said, entity
        for question in self.dice.sample(sorted(answers), min(10, len(answers))):
            self._check_fact(place, moment, question, answers[question])
        self.looked_up += len(versions) + len(answers)
        self.seen["visible"] += sum(said is not None for said in (*versions.values(), *answers.values()))

    def _check_located(self, place: Place, moment: Moment, versions: Mapping[str, str | None]) -> None:
        expected = {}
        for version in filter(None, versions.values()):
            row = place.versions[version]
            for passage in row.passages:
                expected.setdefault(row.passage_id(place.tenant, place.name, passage), (version, passage.start))
        found = {}
        with self.catalog.read() as tx:
            for ids in batched(sorted(place.vectors), 500):
                found |= passages_at(tx, place.tenant, place.name, ids, moment)
        assert {one: (located.version_id, located.start) for one, located in found.items()} == expected
        for located in found.values():
            assert moment in located.extent and located.doc_id in versions
            assert located.text == place.versions[located.version_id].text[located.start : located.end]

    def _check_points(self, place: Place, moment: Moment, versions: Mapping[str, str | None]) -> None:
        """Exactly one point is visible of each passage that is, with the metadata of its version."""
        for doc_id, version in versions.items():
            shown = [point for point in place.points[doc_id].values() if moment in point.extent]
            row = None if version is None else place.versions[version]
            passages = row.passages if row else ()
            expected = {row.passage_id(place.tenant, place.name, one) for one in passages} if row else set()
            assert sorted(point.item_id for point in shown) == sorted(expected), doc_id
            assert all(row and point.metadata == row.metadata for point in shown)

    def _check_fact(self, place: Place, moment: Moment, question: str, said: str | None) -> None:
        contents = {entry.content for entry in place.questions[question].entries if entry.content}
        with self.catalog.read() as tx:
            shown = {fact for fact in contents if fact_at(tx, question, fact, moment) is not None}
        assert shown == ({said} if said else set())

    def moment(self, place: Place) -> Moment:
        """Random, at, beside and between the boundaries of some log."""
        dice = self.dice
        log = dice.choice([*place.documents.values(), *place.questions.values()])
        edges = [edge for entry in log.entries for edge in (entry.start, entry.end)] or AXIS
        low, high = sorted(dice.choices(edges, k=2))
        as_of = dice.choice([dice.choice(edges) + dice.choice([-1, 0, 1]), dice.randint(low, high), dice.choice(AXIS)])
        low, high = sorted(dice.choices(place.records, k=2))
        known = dice.choice([dice.choice(place.records) + dice.choice([-1, 0, 0]), dice.randint(low, high), place.told])
        return Moment(min(max(as_of, OPEN_START), OPEN_END - 1), min(known, place.told))


def stated(rows: Sequence[FeatureRow], moment: Moment, content: str) -> str | None:
    """What the latest statement by then about the latest event by then says."""
    known = [row for row in rows if row.created <= moment.known_at and row.event <= moment.as_of]
    newest = max(known, key=lambda row: (row.event, row.created), default=None)
    return str(newest.values[content]) if newest is not None and newest.found else None


def _told(recorder: Recorder, place: Place, row: Row) -> bool | None:
    """Whether it was new; None if it was refused."""
    try:
        if isinstance(row, DocumentIn):
            return recorder.document(row)
        if isinstance(row, FactIn):
            return recorder.fact(row)
        if isinstance(row.of, DocumentIn):
            return recorder.end(row.of.doc_id, row.valid_from, row.valid_to, row.recorded_at)
        question = row.of.question_key(place.tenant, place.name)
        return recorder.end_fact(question, row.valid_from, row.valid_to, row.recorded_at)
    except InvalidDocument:
        return None


def _kind(place: Place, row: Row, outcome: bool | None) -> str:
    """What kind of update it is, to see that all of them occur."""
    if not outcome:
        return "refused" if outcome is None else "idle"
    if isinstance(row, End):
        return "ended now" if row.valid_from is None else "ended" if row.valid_to is None else "withdrawn"
    log, start = place.log_of(row), row.valid_from
    if start is None and isinstance(row, DocumentIn):
        return "undated"
    runs = list(log.runs())
    start = OPEN_START if start is None else start
    content = (row.version_id if isinstance(row, DocumentIn) else row.fact_id)(place.tenant, place.name)
    if any(entry.content == content for entry in log.entries):
        return "again"
    if not runs:
        return "new"
    if any(first <= start < last for first, last, _ in runs):
        return "later" if start > runs[-1][0] and row.valid_to is None else "correction"
    return "late"


def with_past(dice: random.Random, rows: Sequence[Row], clock: int) -> tuple[list[Row], int]:
    """The rows as an imported history: sorted by record time, some of one instant; and the last one's time."""
    dated: list[Row] = []
    for row in rows:
        clock += dice.choice([0, 0, 1, 7, DAY])
        dated.append(replace(row, recorded_at=clock))
    return dated, clock


def live(world: World, histories: int) -> None:
    """Record the histories, interleaved, the readers now and then told of what there is, and look things up."""
    writer = Writer(world.dice)
    due: dict[int, list[Row]] = defaultdict(list)
    for number in range(histories):
        made = list(writer.history(number))
        turns = sorted(world.dice.choices(range(6), k=len(made)))
        for turn, row in zip(turns, made, strict=True):
            due[number % len(world.places) * 6 + turn].append(row)
    clock = FIRST_RECORD
    for turn in range(6):
        for number, place in enumerate(world.places):
            rows = due[number * 6 + turn]
            if place.history_job:
                rows, clock = with_past(world.dice, rows, clock)
            for some in batched(rows, A_TRANSACTION):
                world.record(place, some)
            untold = [recorded for recorded in place.records if recorded > place.told]
            for to in sorted(world.dice.choices(untold, k=world.dice.randint(0, 4))) if untold else ():
                world.tell(place, to)
            if len(place.records) > 1:
                world.check(place, world.moment(place))
    for place in world.places:
        world.tell(place, place.records[-1])


@pytest.mark.timeout(120 + ROWS // 50)
def test_what_is_visible_at_every_moment_is_what_the_replay_of_the_log_says(
    seed: int, histories: int, catalog_url: str, tmp_path: Path
) -> None:
    places = [Place(tenant, name) for tenant in ("acme", "rival") for name in ("notes", "other")]
    places += [Place(tenant, "history", history_job="j") for tenant in ("acme", "rival")]
    world = World(random.Random(seed), Database(catalog_url), VectorFiles(tmp_path / "vectors"), places)
    try:
        live(world, HISTORIES if histories > HISTORIES else histories // 2)
        enough = histories if histories > HISTORIES else ROUNDS * histories // 2
        while world.looked_up < enough:
            for place in places:
                moment = world.moment(place)
                try:
                    world.check(place, moment)
                except AssertionError as error:
                    error.add_note(f"{place.tenant}/{place.name} at {moment}, seed {seed}")
                    raise
    finally:
        world.catalog.close()
    print(f"seed {seed}: looked up {world.looked_up} rows after {dict(world.seen)}")
    assert all(world.seen[kind] for kind in KINDS), f"too few kinds of case: {dict(world.seen)}"
