"""The answer cache: what makes another key, how long entries live, what is never kept, and what an outage costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.event import listen

from services.catalog import answers, erasing, events
from services.catalog.boundaries import span_at, standing
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.reading import collection as collection_row
from services.catalog.records import DocumentIn, FactIn, Generation
from services.catalog.state import resolve_moment
from services.catalog.tables import answers as table
from services.common.errors import Unavailable
from services.common.moment import OPEN_END, OPEN_START, Moment, Span, now, parse_instant
from services.gateway.caching import CachedAnswering, Lives, key_of
from services.gateway.entries import RedisEntries
from services.gateway.metrics import Metrics
from services.orchestrator.graph.answer import Emit, Event, Question
from services.orchestrator.graph.costing import Cost
from services.orchestrator.graph.nodes import Nodes
from tests.fakes.entries import MemoryEntries
from tests.fakes.gateway import COLLECTION, GENERATION, catalog_in, citation, client_of, gateway, nodes_over, said

YEARS = {year: parse_instant(f"{year}-06-15T12:00:00Z") for year in (1999, 2005, 2011, 2020)}
QUESTION = Question("", "local", COLLECTION, "When did it open?", Moment(YEARS[2005], 9), GENERATION)


@dataclass
class Desk:
    """Asks through a cache; answers are what `changed` says."""

    catalog: Database
    nodes: Nodes
    entries: Any
    clock: int
    metrics: Metrics
    changed: dict[str, Any]
    runs: int = 0

    @property
    def cached(self) -> CachedAnswering:
        lives = Lives(60.0, 600.0)
        return CachedAnswering(self._run, self.nodes, self.entries, self.metrics, lives, lambda: self.clock)

    async def ask(self, as_of: int = YEARS[2005], **changed: Any) -> list[Event]:
        """Everything told of an answer, as asked now of all that is on record."""
        with self.catalog.write() as tx:
            moment = resolve_moment(tx, "local", COLLECTION, GENERATION, as_of, changed.pop("known_at", now()))
            question = replace(QUESTION, moment=moment, **changed)
            answer_id = answers.create(tx, "local", COLLECTION, question.to_json())
        told: list[Event] = []

        async def emit(event: Event) -> None:
            told.append(event)

        await self.cached.answer(replace(question, answer_id=answer_id), emit)
        return told

    async def _run(self, question: Question, emit: Emit) -> None:
        self.runs += 1
        models = {"encoder": "e", **({"generator": "m"} if question.generate else {})}
        fields = {"models": models, "usage": Cost(7, 3, 17, 640).usage(), **self.changed}
        found = said(question, "It opened in 1901. [1]", citation(), **fields).to_json()
        with self.catalog.write() as tx:
            events.record_answer(tx, question.answer_id, 1, answers.DONE, found, now())
        await emit(Event("done", {"answer": found}))

    def counted(self, state: str) -> int:
        return int(self.metrics.cache.labels(state)._value.get())


class OneModel:
    name = "m"

    async def models(self, tenant: str = "") -> list[str]:
        if not self.name:
            raise Unavailable("the generator does not answer")
        return [self.name]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    catalog, clock = catalog_in(tmp_path), now()
    nodes = replace(nodes_over(catalog), generator=OneModel())  # type: ignore[arg-type]
    made = Desk(catalog, nodes, None, clock, Metrics(), {})
    made.entries = MemoryEntries(lambda: made.clock)
    yield made
    catalog.close()


def commit(desk: Desk, row: DocumentIn | FactIn) -> None:
    with desk.catalog.write() as tx:
        recorder = Recorder(tx, "local", COLLECTION)
        recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row)
        recorder.close()


def newest(desk: Desk) -> int:
    with desk.catalog.read() as tx:
        return int(collection_row(tx, "local", COLLECTION).recorded_at)


async def test_what_was_answered_is_told_again_under_an_id_of_its_own(desk: Desk) -> None:
    [first] = await desk.ask()
    told = await desk.ask(as_of=YEARS[2005] + 1)
    again, source = told[-1].data["answer"], first.data["answer"]
    assert [event.kind for event in told] == ["step", "citation", "text", "done"] and desk.runs == 1
    assert again["cached_from"] == source["id"] != again["id"] and source["cached_from"] == ""
    assert (again["answer"], again["citations"]) == (source["answer"], source["citations"])
    assert again["moment"]["as_of"] == "2005-06-15T12:00:00.000001Z"
    assert again["usage"] == {**Cost().usage(), "saved_tokens": 10, "saved_texts": 17, "saved_ms": 640}
    with desk.catalog.read() as tx:
        assert answers.get(tx, "local", again["id"]) == again
    assert [desk.counted(state) for state in ("hit", "miss", "refused")] == [1, 1, 0]


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": "other"},
        {"collection": "other"},
        {"text": "When did it close?"},
        {"filters": {"k": ["a"]}},
        {"generate": False},
        {"max_tokens": 7},
        {"adapter": "formal"},
        {"key_id": "k1"},
        {"weights": {"recency": 1.0}},
        {"exact": True},
        {"phrase": "in 2005"},
        {"generation": Generation("g2", "other", 64)},
        {"moment": Moment(YEARS[2005], 10)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_is_asked_otherwise_has_another_key(changed: dict[str, Any]) -> None:
    assert key_of(replace(QUESTION, **changed), Span(), 0, "m") != key_of(QUESTION, Span(), 0, "m")


def test_the_span_the_erasures_and_the_model_are_in_the_key_and_the_instant_is_not() -> None:
    key = key_of(QUESTION, Span(), 0, "m")
    elsewhere = replace(QUESTION, answer_id="x", moment=Moment(YEARS[2011], 9))
    assert key_of(elsewhere, Span(), 0, "m") == key
    others = {key_of(QUESTION, Span(0, 9), 0, "m"), key_of(QUESTION, Span(), 1, "m"), key_of(QUESTION, Span(), 0, "n")}
    assert len(others | {key}) == 4


async def test_a_commit_makes_another_key_but_not_for_who_asks_as_known_before(desk: Desk) -> None:
    before = newest(desk)
    await desk.ask(known_at=before)
    commit(desk, FactIn("Who?", "Nobody"))
    assert len(await desk.ask()) == 1 and desk.runs == 2
    await desk.ask(known_at=before)
    assert desk.runs == 2 and desk.counted("hit") == 1


async def test_an_answer_is_shared_between_boundaries_and_within_what_the_prompt_says_of_time(desk: Desk) -> None:
    commit(desk, FactIn("Who?", "Nobody", valid_from=YEARS[2005]))
    for as_of, runs in (
        (YEARS[2005] - 1, 1),
        (YEARS[2005] - 2, 1),
        (YEARS[2005], 2),
        (YEARS[2005] + 86_400_000_000, 3),
    ):
        await desk.ask(as_of)
        assert desk.runs == runs, as_of
    for as_of, runs in ((YEARS[2011], 4), (YEARS[2011] + 86_400_000_000, 4), (YEARS[2020], 5)):
        await desk.ask(as_of, generate=False)
        assert desk.runs == runs, as_of


async def test_an_entry_ends_when_its_life_does(desk: Desk) -> None:
    await desk.ask()
    desk.clock += 60_000_001
    await desk.ask()
    assert desk.runs == 2


async def test_an_entry_of_times_gone_by_lives_long(desk: Desk) -> None:
    before = newest(desk)
    commit(desk, FactIn("Who?", "Nobody"))
    await desk.ask(known_at=before)
    desk.clock += 599_000_000
    await desk.ask(known_at=before)
    assert desk.runs == 1


async def test_an_entry_of_now_ends_at_the_next_boundary(desk: Desk) -> None:
    desk.clock -= desk.clock % 86_400_000_000
    commit(desk, FactIn("Who?", "Nobody", valid_from=desk.clock + 5_000_000))
    await desk.ask(as_of=desk.clock)
    [(_, until)] = desk.entries.kept.values()
    assert until == desk.clock + 5_000_000


@pytest.mark.parametrize("changed", [{"degraded": ("encoder",)}, {"models": {"generator": "another"}}])
async def test_what_is_not_whole_or_not_of_the_model_named_is_not_kept(desk: Desk, changed: dict[str, Any]) -> None:
    desk.changed = changed
    await desk.ask()
    assert not desk.entries.kept


async def test_without_the_generator_the_question_is_answered_and_nothing_kept(desk: Desk) -> None:
    desk.nodes.generator.name = ""  # type: ignore[attr-defined]
    await desk.ask()
    assert desk.runs == 1 and desk.counted("refused") == 1 and not desk.entries.kept


async def test_an_erasure_ends_every_entry_of_its_collection_and_nothing_is_kept_while_it_goes_on(desk: Desk) -> None:
    await desk.ask()
    with desk.catalog.write() as tx:
        erasure_id = erasing.ask(tx, "local", COLLECTION, "port/harbour").job_id
    await desk.ask()
    assert desk.runs == 2 and desk.counted("refused") == 1
    with desk.catalog.write() as tx:
        erasing.step_done(tx, erasure_id, erasing.DONE)
    await desk.ask()
    assert desk.runs == 3 and desk.counted("hit") == 0


async def test_an_entry_whose_answer_was_emptied_is_dropped(desk: Desk) -> None:
    await desk.ask()
    [(source, _)] = desk.entries.kept.values()
    with desk.catalog.write() as tx:
        record = tx.execute(select(table.c.record).where(table.c.answer_id == source)).scalar_one()
        tx.execute(update(table).where(table.c.answer_id == source).values(record={**record, "erased": True}))
    await desk.ask()
    [(kept, _)] = desk.entries.kept.values()
    assert desk.runs == 2 and kept != source


async def test_an_entry_holds_nothing_but_an_id(desk: Desk) -> None:
    [told] = await desk.ask()
    [(key, (value, _))] = desk.entries.kept.items()
    assert value == told.data["answer"]["id"] and len(key) == 64


def test_the_span_lies_between_the_boundaries_on_record_by_then(desk: Desk) -> None:
    before = now()
    commit(desk, DocumentIn("d", "D", "D", valid_from=YEARS[1999], valid_to=YEARS[2020]))
    commit(desk, FactIn("Who?", "Nobody", valid_from=YEARS[2011]))

    def span(as_of: int, known_at: int) -> Span:
        with desk.catalog.read() as tx:
            return span_at(tx, "local", COLLECTION, Moment(as_of, known_at))

    assert span(YEARS[2005], now()) == Span(YEARS[1999], YEARS[2011])
    assert span(YEARS[2011], now()) == Span(YEARS[2011], YEARS[2020])
    assert span(YEARS[2020], now()) == Span(YEARS[2020], OPEN_END)
    assert span(YEARS[2005], before) == Span(OPEN_START, OPEN_END)


def test_the_boundaries_are_found_by_an_index(desk: Desk) -> None:
    seen: list[tuple[str, Any]] = []
    with desk.catalog.read() as tx:
        listen(tx, "before_cursor_execute", lambda *said: seen.append((said[2], said[3])))
        standing(tx, "local", COLLECTION, Moment(YEARS[2005], now()))
        asked = [one for one in seen if "statements" in one[0]]
        plans = [str(tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()) for sql, values in asked]
    assert len(plans) == 2 and all("INDEX statements_by_event" in plan for plan in plans), plans


async def test_a_redis_that_is_away_costs_no_more_than_its_bound_and_is_not_asked_again_at_once(tmp_path: Path) -> None:
    clock = 0.0
    async with silent(tmp_path / "redis.sock") as (url, connections):
        entries = RedisEntries(url, lambda: clock)
        began = asyncio.get_running_loop().time()
        assert await entries.get("k") is None
        assert asyncio.get_running_loop().time() - began < 0.5
        await entries.set("k", "v", 1.0)
        await entries.delete("k")
        asked = len(connections)
        clock = 2.0
        assert await entries.get("k") is None and len(connections) > asked == 1
        await entries.close()


@asynccontextmanager
async def silent(path: Path) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that takes connections and says nothing."""
    connections: list[Any] = []

    async def taken(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_unix_server(taken, path)
    yield f"unix://{path}", connections
    server.close()
    for writer in connections:
        writer.close()


async def test_both_interfaces_answer_from_the_cache(tmp_path: Path, desk: Desk) -> None:
    (elsewhere := tmp_path / "other").mkdir()
    async with gateway(elsewhere, lambda question, emit: desk.cached.answer(question, emit)) as app:
        desk.catalog = app.state.context.catalog
        desk.nodes = replace(desk.nodes, catalog=desk.catalog)
        moment = {"as_of": "2005-06-15", "known_at": None, "collection": COLLECTION}
        async with client_of(app) as client:
            asked = {"question": "When did it open?", "max_tokens": 96, **moment}
            first = (await client.post("/v1/answers", json=asked)).json()
            again = (await client.post("/v1/answers", json=asked)).json()
            streamed = await client.post("/v1/answers", json={**asked, "stream": True})
            chat = {"model": "almanac", "max_tokens": 96, **moment}
            messages = [{"role": "user", "content": asked["question"]}]
            said = (await client.post("/v1/chat/completions", json={**chat, "messages": messages})).json()
    assert again["cached_from"] == first["id"] and f'"cached_from": "{first["id"]}"' in streamed.text
    assert said["choices"][0]["message"]["content"] == first["answer"] and desk.runs == 1
