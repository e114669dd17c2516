"""Compare, timeline, replay and moments in questions, through the gateway over a catalog with a past."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from services.catalog import answers, erasing
from services.catalog.generations import start
from services.catalog.records import DocumentIn, FactIn, PassageIn
from services.catalog.tables import generations
from services.common.moment import Span, parse_instant
from services.common.nodes.funnel import PLAIN
from services.gateway.app import create_app
from services.gateway.context import Context
from services.gateway.dispatch import Dispatcher
from services.gateway.settings import GatewaySettings
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.chronicle import Entry, chronicle, merged
from services.orchestrator.graph.replaying import replay
from tests.fakes.gateway import MemoryBroker, client_of
from tests.fakes.generator import FakeGenerator
from tests.fakes.world import GENERATIONS, MODEL, World, opened
from tests.property.oracle import Place

HERE = {"collection": "notes"}
MASTER = "Who was the harbour master?"
MAYOR = "Who was the mayor?"


def document(doc_id: str, text: str, since: str | None = None) -> DocumentIn:
    passage = PassageIn(0, (), 0, len(text), text)
    return DocumentIn(doc_id, "", text, valid_from=since and parse_instant(since), passages=(passage,))


def fact(answer: str, since: str, until: str | None) -> FactIn:
    return FactIn(MAYOR, answer, valid_from=parse_instant(since), valid_to=until and parse_instant(until))


PAST = [
    document("port", "The harbour master was Anna Berg.", "2000-01-01"),
    document("port", "The harbour master was Bruno Lind.", "2010-01-01"),
    document("library", "The library was opened in 1901 beside the old church."),
    fact("Carla", "2001-01-01", "2005-01-01"),
    fact("Dario", "2005-01-01", "2008-01-01"),
    fact("Elena", "2012-01-01", None),
]


@dataclass
class Town:
    """A gateway over the rows of PAST, its worker lost, so that it answers by itself."""

    world: World
    place: Place
    client: httpx.AsyncClient

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        response = await self.client.post(f"/v1/answers{path}", json=body)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def ask(self, question: str, **fields: Any) -> dict[str, Any]:
        return await self.post("", question=question, **HERE, **fields)

    async def replay(self, answer: dict[str, Any]) -> dict[str, Any]:
        return await self.post(f"/{answer['id']}/replay")

    async def record(self, *rows: Any) -> None:
        await self.world.record(self.place, rows)
        await self.world.advance("memory", self.place, self.place.records[-1])

    async def erase(self, doc_id: str) -> None:
        with self.world.catalog.write() as tx:
            erasure = erasing.get(tx, erasing.ask(tx, "acme", "notes", doc_id).job_id)
            erasing.delete_document(tx, erasure)
            erasing.scrub_answers(tx, erasure, 0, "", 100)
            erasing.step_done(tx, erasure.erasure_id, erasing.DONE)
        await self.world.nodes["memory"].retriever.erase("g1", "acme", "notes", doc_id)


@asynccontextmanager
async def lived_in(directory: Path) -> AsyncIterator[Town]:
    with opened(1, directory) as world:
        nodes = world.nodes["memory"]

        @asynccontextmanager
        async def context(settings: GatewaySettings, metrics: Any) -> AsyncIterator[Context]:
            broker = MemoryBroker()
            broker.down = True
            answering = Dispatcher(nodes, broker, metrics, 60).answer
            yield Context(settings, world.catalog, nodes, broker, answering, metrics)  # type: ignore[arg-type]

        app = create_app(GatewaySettings(home=directory, tenant="acme"), context)
        async with app.router.lifespan_context(app), client_of(app) as client:
            town = Town(world, world.places[0], client)
            await town.record(*PAST)
            yield town


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with lived_in(tmp_path) as found:
        yield found


async def test_a_record_says_what_an_answer_rests_on_without_a_word_of_it(town):
    answer = await town.ask(MASTER, as_of="2005-01-01")
    basis = answer["basis"]
    assert [one["id"] for one in basis["evidence"]] == [one["passage_id"] for one in answer["citations"]]
    assert {one["doc_id"] for one in basis["passages"]} == {"port", "library"} and len(basis["prompt_sha256"]) == 64
    assert not any(word in json.dumps(basis) for word in ("harbour", "Anna", "church"))


async def test_a_replay_is_identical_after_corrections_and_later_documents(town):
    given = [await town.ask(text, as_of="2005-06-01") for text in (MASTER, MAYOR, "What was opened in 1901?")]
    corrected = document("port", "The harbour master was Clara Holm.", "1999-01-01")
    await town.record(corrected, document("new", "Another harbour had a master too."))
    for answer in given:
        found = await town.replay(answer)
        assert found["identical"] and found["overlap"] == 1.0, (answer["question"], found["differences"])
    assert (await town.ask(MASTER, as_of="2005-06-01"))["answer"] != given[0]["answer"]


async def test_a_replay_says_that_what_was_cited_is_erased(town):
    answer = await town.ask(MASTER)
    await town.erase("port")
    found = await town.replay(answer)
    assert (found["identical"], found["answer"]) == (False, None)
    assert [(one["what"], one["why"]) for one in found["differences"]] == [("evidence", "erased")]


async def test_a_replay_says_that_what_was_considered_is_erased_and_no_hash_of_it_stays(town):
    await town.record(document("stub", "Harbour master."))  # no sentence that could be cited
    answer = await town.ask(MASTER)
    assert "stub" in answer["retrieved"]
    await town.erase("stub")
    found = await town.replay(answer)
    assert found["differences"][0]["what"] == "passages"
    assert {one["why"] for one in found["differences"]} == {"erased"} and found["overlap"] == 0.6667
    record = (await town.client.get(f"/v1/answers/{answer['id']}")).json()
    assert sorted(one["sha256"] == "" for one in record["basis"]["passages"]) == [False, False, True]


async def test_a_replay_of_a_dropped_generation_is_made_on_the_live_one(town):
    answer = await town.ask(MASTER)
    with town.world.catalog.write() as tx:
        other = start(tx, MODEL, 64, PLAIN)
        tx.execute(update(generations).where(generations.c.generation == "g1").values(state="dropped"))
        tx.execute(update(generations).where(generations.c.generation == other.name).values(state="live"))
    await town.world.readers("memory").advance_index(other, "acme", "notes", town.place.records[-1])
    found = await town.replay(answer)
    assert [(one["what"], one["why"]) for one in found["differences"]] == [("generation", "other generation")]
    assert found["generation"] == "g2" and found["overlap"] == 1.0


async def test_a_replay_without_the_model_that_wrote_says_so(town, monkeypatch):
    answer = await town.ask(MASTER)

    async def models(self: FakeGenerator, tenant: str = "") -> list[str]:
        return ["another"]

    monkeypatch.setattr(FakeGenerator, "models", models)
    found = await town.replay(answer)
    assert [(one["what"], one["why"]) for one in found["differences"]] == [("models", "other model")]


async def test_what_an_approximate_search_gives_otherwise_is_called_that(town):
    answer = await town.ask(MASTER)
    with town.world.catalog.read() as tx:
        stored = answers.stored(tx, "acme", answer["id"])
    basis = {**stored.record["basis"], "passages": stored.record["basis"]["passages"][:1]}
    for exact, why in ((False, "approximate search"), (True, "unexplained")):
        missed = replace(stored, record={**stored.record, "exact": exact, "basis": basis})
        found = await replay(town.world.nodes["memory"], missed)
        assert [(one.what, one.why) for one in found.differences] == [("passages", why)]


async def test_an_unknown_answer_is_not_replayed(town):
    assert (await town.client.post("/v1/answers/none/replay")).status_code == 404


async def test_compare_says_between_which_moments_the_answer_changed(town):
    at = [{"as_of": day} for day in ("2002-01-01", "2003-01-01", "2006-01-01")]
    found = await town.post("/compare", question=MAYOR, at=at, **HERE)
    assert [answer["answer"] for answer in found["answers"]] == ["Carla", "Carla", "Dario"]
    assert [change["changed"] for change in found["changes"]] == [False, True]
    quotes = [found["changes"][1][side]["citations"][0]["quote"] for side in ("before", "after")]
    assert quotes == ["Carla", "Dario"]


@pytest.mark.parametrize("moments", [1, 9])
async def test_compare_takes_two_to_eight_moments(town, moments):
    at = [{"as_of": "2002-01-01"}] * moments
    response = await town.client.post("/v1/answers/compare", json={"question": MAYOR, "at": at, **HERE})
    assert response.status_code == 400


async def test_a_timeline_has_every_fact_with_its_span(town):
    found = await town.post("/timeline", question=MAYOR, **HERE)
    spans = [(one["answer"], one["valid_from"], one["valid_to"]) for one in found["entries"]]
    assert found["complete"]
    assert [span for span in spans if span[0] in ("Carla", "Dario", "Elena")] == [
        ("Carla", "2001-01-01T00:00:00Z", "2005-01-01T00:00:00Z"),
        ("Dario", "2005-01-01T00:00:00Z", "2008-01-01T00:00:00Z"),
        ("Elena", "2012-01-01T00:00:00Z", None),
    ]


async def test_a_timeline_of_documents_finds_what_is_no_longer_valid(town):
    found = await town.post("/timeline", question=MASTER, **HERE)
    told = [(one["answer"], one["valid_from"], one["valid_to"]) for one in found["entries"]]
    assert found["complete"]
    assert told[-2:] == [
        ("The harbour master was Anna Berg.", "2000-01-01T00:00:00Z", "2010-01-01T00:00:00Z"),
        ("The harbour master was Bruno Lind.", "2010-01-01T00:00:00Z", None),
    ]


async def test_a_timeline_that_was_cut_short_says_so(town):
    moment = town.world.moment("memory", town.place, parse_instant("2020-01-01"), None)
    question = Question("", "acme", "notes", MASTER, moment, GENERATIONS["memory"])
    found = await chronicle(town.world.nodes["memory"], question, most=1)
    assert not found.complete and [entry.answer for entry in found.entries] == ["The harbour master was Bruno Lind."]


async def test_a_question_is_answered_at_the_date_it_names(town):
    for text, phrase, said in [
        ("Who was the harbour master in 2005?", "in 2005", "Anna Berg"),
        ("Who was the mayor in 2003?", "in 2003", "Carla"),
        ("Who was the mayor before 2005?", "before 2005", "Carla"),
    ]:
        answer = await town.ask(text)
        assert (answer["moment_from"], answer["moment_phrase"]) == ("question", phrase), text
        assert said in answer["answer"]


async def test_a_given_moment_is_not_overridden(town):
    answer = await town.ask("Who was the harbour master in 2005?", as_of="2015-01-01")
    assert answer["moment_from"] == "" and "Bruno" in answer["answer"]


async def test_a_date_in_a_question_about_undated_documents_changes_nothing(town):
    text = "What was opened in 1901?"
    answer = await town.ask(text)
    plain = await town.ask(text, as_of=answer["moment"]["as_of"])
    assert answer["moment_from"] == "" and answer["citations"][0]["doc_id"] == "library"
    assert (answer["answer"], answer["basis"]) == (plain["answer"], plain["basis"])


async def test_a_date_at_which_nothing_answers_is_not_taken(town):
    answer = await town.ask("Who was the harbour master in 1850?")
    assert answer["moment_from"] == "" and "Bruno" in answer["answer"]


def test_adjacent_equal_answers_are_one(seed):
    dice = random.Random(seed)
    for _ in range(200):
        said = [dice.choice("ab") for _ in range(6)]
        entries = [Entry(Span(n, n + 1), answer, ()) for n, answer in enumerate(said) if dice.random() < 0.8]
        found = merged(dice.sample(entries, len(entries)))
        told = {n: one.answer for one in found for n in range(one.span.start, one.span.end)}
        assert told == {entry.span.start: entry.answer for entry in entries}
        assert all(a.span.end < b.span.start or a.answer != b.answer for a, b in pairwise(found))
