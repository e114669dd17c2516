"""The answer cache against runs afresh: whatever it gives is what the graph would say at that very instant.

A sequence is one collection in which commits, passing boundaries, erasures, other models, outages and questions follow
each other in any order; erasures and commits also begin in the middle of a question. The graph is a stand-in that says
all that is visible at the moment, read from the catalog's extents, and the day and the model where it generates. There
is one sequence for every ten of ALMANAC_PROPERTY_ROWS.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, select

from services.catalog import answers, erasing, events
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.erasing import Erasure
from services.catalog.reading import collection as collection_row
from services.catalog.records import DocumentIn, FactIn
from services.catalog.state import ensure_generation, resolve_moment
from services.catalog.tables import fact_extents, facts, questions, version_extents, versions
from services.common.errors import InvalidDocument
from services.common.moment import Moment, Span, format_instant, now, parse_instant
from services.gateway.caching import CachedAnswering
from services.gateway.metrics import Metrics
from services.orchestrator.graph.answer import Answer, Citation, Emit, Event, Question
from services.orchestrator.graph.nodes import Nodes
from tests.conftest import ROWS
from tests.fakes.entries import MemoryEntries
from tests.fakes.gateway import GENERATION, nodes_over, said

SEQUENCES = max(100, ROWS // 10)
A_CATALOG = 200
"""Sequences in one database."""
STEPS = 12
HOUR = 3_600_000_000
BEGIN = parse_instant("2001-12-30")
EDGES = [BEGIN + number * 6 * HOUR for number in range(1, 12)]
DOCUMENTS, WORDS = ("a", "b", "c"), ("x", "y", "z")
STATES = ("hit", "miss", "refused")


class OneModel:
    """A generator that names its model."""

    def __init__(self) -> None:
        self.name = "m1"

    async def models(self, tenant: str = "") -> list[str]:
        return [self.name]


@dataclass(frozen=True)
class Wanted:
    """What somebody asks; no `as_of` is the clock's, no `known_at` the newest record's."""

    as_of: int | None
    known_at: int | None
    filters: Mapping[str, list[str]]
    weights: Mapping[str, float]
    generate: bool


@dataclass
class World:
    """A catalog, a cache over it, and the collection at hand. `clock` is what the world's time is."""

    dice: random.Random
    catalog: Database
    tenant: str = ""
    clock: int = BEGIN
    lost: tuple[str, ...] = ()
    model: OneModel = field(default_factory=OneModel)
    erasure: Erasure | None = None
    records: list[int] = field(default_factory=list)
    asked: list[Wanted] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    metrics: Metrics = field(default_factory=Metrics)
    entries: MemoryEntries = field(init=False)

    def __post_init__(self) -> None:
        self.entries = Interrupted(self)
        nodes = replace(nodes_over(self.catalog), generator=self.model)  # type: ignore[arg-type]
        self.cached = CachedAnswering(self.fresh, nodes, self.entries, self.metrics, clock=lambda: self.clock)
        self.nodes: Nodes = nodes

    def begin(self, number: int) -> None:
        """A new collection."""
        self.tenant, self.clock, self.erasure = f"t{number}", BEGIN, None
        self.records, self.asked = [], []
        for _ in range(4):
            self.commit()

    def commit(self) -> None:
        dice = self.dice
        start, end = sorted(dice.sample(EDGES, 2))
        valid = (dice.choice([None, start]), dice.choice([None, None, end]))
        doc_id, word = dice.choice(DOCUMENTS), dice.choice(WORDS)
        with self.catalog.write() as tx:
            recorder = Recorder(tx, self.tenant, "notes")
            try:
                match dice.randrange(4):
                    case 0 | 1:
                        row = DocumentIn(doc_id, word, word, metadata={"k": dice.choice("ab")})
                        recorder.document(replace(row, valid_from=valid[0], valid_to=valid[1]))
                    case 2:
                        recorder.fact(FactIn("Q?", word, valid_from=valid[0], valid_to=valid[1]))
                    case _:
                        recorder.end(doc_id, start, valid[1])
            except InvalidDocument:
                self.seen["refused commit"] += 1
            self.records.append(recorder.close())

    def pass_time(self) -> None:
        self.clock += self.dice.choice([1, 1, HOUR, HOUR, 6 * HOUR, 6 * HOUR - 1, 30 * HOUR])

    def erase(self) -> None:
        """Some steps of an erasure, or all of one."""
        for _ in range(self.dice.choice([1, 1, 3])):
            self.erase_on()

    def erase_on(self) -> None:
        """The next step of an erasure: asked, out of the catalog, out of the answers."""
        with self.catalog.write() as tx:
            if self.erasure is None:
                self._ask_erasure(tx)
            elif (erasure := erasing.get(tx, self.erasure.erasure_id)).state == erasing.ASKED:
                erasing.delete_document(tx, erasure)
                erasing.step_done(tx, erasure.erasure_id, "catalog")
            else:
                erasing.scrub_answers(tx, erasure, erasure.updated_at, "", 1_000)
                erasing.step_done(tx, erasure.erasure_id, erasing.DONE)
                self.seen["erased"] += 1
                self.erasure = None

    def _ask_erasure(self, tx: Connection) -> None:
        here = (versions.c.tenant == self.tenant,)
        held = sorted(set(tx.execute(select(versions.c.doc_id).where(*here)).scalars()))
        if held:
            job = erasing.ask(tx, self.tenant, "notes", self.dice.choice(held))
            self.erasure = erasing.get(tx, job.job_id)

    def break_something(self) -> None:
        match self.dice.randrange(4):
            case 0 | 1:
                self.model.name = "m2" if self.model.name == "m1" else "m1"
            case 2:
                self.lost = self.dice.choice([(), (), (), ("generator",)])
            case _:
                self.entries.down = self.dice.random() < 0.3

    async def ask(self, wanted: Wanted | None = None) -> None:
        """Ask, and hold what is said against a run afresh."""
        question = self._question(wanted or self._wanted())
        told: list[Event] = []
        changes = self.changes()

        async def emit(one: Event) -> None:
            told.append(one)

        await self.cached.answer(question, emit)
        answer = told[-1].data["answer"]
        self._check_told(question, told, answer)
        if answer["cached_from"]:
            self.seen["hit now" if question.moment.as_of == self.clock else "hit then"] += 1
            expected = self.pure(question).to_json()
            for what in ("answer", "citations", "moment", "models", "grounding", "question"):
                assert json.dumps(answer[what]) == json.dumps(expected[what]), (what, question, changes)

    def _check_told(self, question: Question, told: list[Event], answer: Mapping[str, Any]) -> None:
        kinds = [one.kind for one in told if one.kind != "step"]
        assert (
            kinds == ["citation"] * len(answer["citations"]) + ["text", "done"] and answer["id"] == question.answer_id
        )
        with self.catalog.read() as tx:
            state, record = answers.outcome(tx, question.answer_id) or ("", {})
        assert state == answers.DONE and record["answer"] in (answer["answer"], ""), record

    def changes(self) -> str:
        return f"{self.tenant} at {self.clock}"

    def _wanted(self) -> Wanted:
        """Something new, or again what was asked before."""
        dice = self.dice
        if self.asked and dice.random() < 0.75:
            return dice.choice(self.asked)
        as_of = dice.choice([None, None, dice.choice(EDGES) + dice.choice([-1, 0, 0, 1, HOUR])])
        known_at = dice.choice([None, None, dice.choice(self.records)])
        filters = dice.choice([{}, {}, {"k": ["a"]}])
        weights = dice.choice([{}, {}, {}, {"recency": 1.0}])
        self.asked.append(Wanted(as_of, known_at, filters, weights, dice.random() < 0.5))
        return self.asked[-1]

    def _question(self, wanted: Wanted) -> Question:
        as_of = self.clock if wanted.as_of is None else wanted.as_of
        with self.catalog.write() as tx:
            newest = collection_row(tx, self.tenant, "notes").recorded_at
            known = newest if wanted.known_at is None else wanted.known_at
            moment = resolve_moment(tx, self.tenant, "notes", GENERATION, as_of, known)
            question = Question(
                "",
                self.tenant,
                "notes",
                "Q?",
                moment,
                GENERATION,
                wanted.filters,
                wanted.generate,
                weights=wanted.weights,
            )
            return replace(question, answer_id=answers.create(tx, self.tenant, "notes", question.to_json()))

    async def fresh(self, question: Question, emit: Emit) -> None:
        """The graph: recorded and told as the worker does it. A step of an erasure may come in between."""
        answer = self.pure(question)
        if self.lost:
            answer = replace(answer, answer="less", citations=(), degraded=self.lost)
        found = answer.to_json()
        if self.dice.random() < 0.05:
            self.dice.choice([self.commit, self.erase_on])()
        with self.catalog.write() as tx:
            if not events.record_answer(tx, question.answer_id, 1, answers.DONE, found, now()):
                self.seen["failed by an erasure"] += 1
        for citation in found["citations"]:
            await emit(Event("citation", {"citation": citation}))
        await emit(Event("text", {"text": found["answer"]}))
        await emit(Event("done", {"answer": found}))

    def pure(self, question: Question) -> Answer:
        """All that is visible to the question at its moment, and nothing else; only the first of it is cited."""
        with self.catalog.read() as tx:
            gone = erasing.under_way(tx, question.tenant, question.collection)
            documents = [row for row in _documents(tx, question) if row.doc_id not in gone]
            known = _facts(tx, question)
        citations = tuple(_citation(1, row) for row in documents[:1])
        words = [*(row.text for row in documents), *known, *self._asked_so(question)]
        models = {"encoder": "e", **({"generator": self.model.name} if question.generate else {})}
        return said(question, " ".join(words), *citations, models=models)

    def _asked_so(self, question: Question) -> list[str]:
        as_of = format_instant(question.moment.as_of)
        if question.weights:
            return [as_of]
        return [as_of[:10], self.model.name] if question.generate else [as_of[:4]]


class Interrupted(MemoryEntries):
    """An erasure may take a step between the look at the cache and what it gives."""

    def __init__(self, world: World) -> None:
        super().__init__(lambda: world.clock)
        self._world = world

    async def get(self, key: str) -> str | None:
        found = await super().get(key)
        if found and self._world.dice.random() < 0.05:
            self._world.erase_on()
        return found


def _documents(tx: Connection, question: Question) -> list[Any]:
    wanted = question.filters.get("k")
    query = select(version_extents, versions.c.text, versions.c.metadata).join(
        versions, versions.c.version_id == version_extents.c.version_id
    )
    rows = tx.execute(query.where(version_extents.c.tenant == question.tenant).order_by(versions.c.doc_id))
    return [row for row in rows if _visible(row, question.moment) and (not wanted or row.metadata["k"] in wanted)]


def _facts(tx: Connection, question: Question) -> list[str]:
    query = (
        select(fact_extents, facts.c.answer)
        .join(facts, facts.c.fact_id == fact_extents.c.fact_id)
        .join(questions, questions.c.question_key == fact_extents.c.question_key)
        .where(questions.c.tenant == question.tenant)
    )
    return [f"fact {row.answer} {row.valid_to}" for row in tx.execute(query) if _visible(row, question.moment)]


def _visible(row: Any, moment: Moment) -> bool:
    valid, recorded = Span(row.valid_from, row.valid_to), Span(row.recorded_from, row.recorded_to)
    return moment.as_of in valid and moment.known_at in recorded


def _citation(n: int, row: Any) -> Citation:
    span = (row.valid_from, row.valid_to, row.recorded_from)
    return Citation(n, "passage", row.doc_id, row.version_id, "p", row.text, "", row.text, 0, 1, *span, 0.5)


def world_in(directory: Path, dice: random.Random) -> World:
    catalog = Database(f"sqlite:///{directory / 'catalog.db'}")
    event.listen(catalog.engine, "connect", _careless)
    catalog.engine.dispose()
    with catalog.write() as tx:
        ensure_generation(tx, GENERATION)
    return World(dice, catalog)


def _careless(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


async def live(world: World, number: int) -> None:
    """One sequence."""
    world.begin(number)
    steps: list[Callable[[], None]] = [world.commit, world.pass_time, world.erase, world.break_something]
    for _ in range(STEPS):
        if world.dice.random() < 0.7:
            await world.ask()
        else:
            erased = world.seen["erased"]
            world.dice.choices(steps, weights=[1, 4, 5, 4])[0]()
            for wanted in world.asked if world.seen["erased"] > erased else ():
                await world.ask(wanted)


@pytest.mark.timeout(60 + SEQUENCES // 5)
async def test_the_cache_gives_only_what_a_fresh_run_would(seed: int, tmp_path: Path) -> None:
    dice, seen, states = random.Random(seed), Counter[str](), Counter[str]()
    for first in range(0, SEQUENCES, A_CATALOG):
        (directory := tmp_path / str(first)).mkdir()
        world = world_in(directory, dice)
        for number in range(first, min(SEQUENCES, first + A_CATALOG)):
            await live(world, number)
        world.catalog.close()
        seen += world.seen
        for state in STATES:
            states[state] += int(world.metrics.cache.labels(state)._value.get())
    print(f"seed {seed}: {SEQUENCES} sequences, {dict(states)}, {dict(seen)}")
    assert states["hit"] == seen["hit now"] + seen["hit then"] > SEQUENCES // 2
    assert all((states["miss"], states["refused"], seen["hit now"], seen["hit then"], seen["erased"])), seen
