"""The promise of the moment, end to end: what search, facts and answers show is what the replay of the log says.

Generated histories go through the catalog and the readers' pipeline into the real retriever and features objects, once
over the in-memory index (generation g1) and once over Qdrant Edge (g2). ALMANAC_PROPERTY_ROWS up to 1000 is the number
of histories; more is the number of looked-up rows (a document or a question at a moment, a backend), with a world of
1000 histories for every ROWS_A_WORLD of them. A failure prints its seed and moment.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from services.common.errors import BehindWatermark, DeadlineExceeded, Unavailable
from services.common.moment import Moment, format_instant
from services.common.nodes.features import DOCUMENTS, FACTS
from services.common.nodes.scope import Scope
from services.common.rpc.deadlines import deadline
from services.orchestrator.graph.answer import Answer, Event, Question
from services.orchestrator.graph.facts import find_fact
from services.orchestrator.graph.grounding import ABSTENTION
from services.orchestrator.graph.run import answer
from services.orchestrator.graph.search import Found, query_vector, search
from tests.fakes.world import GENERATIONS, STAGES, Shown, World, advance_somewhat, opened, scheduled
from tests.property.oracle import FILTERS, Place, codewords

HISTORIES = 1_000
ROWS_A_WORLD = 20_000
ROWS = int(os.environ.get("ALMANAC_PROPERTY_ROWS", "1000"))
ROUNDS = 2
FACTS_A_MOMENT, ANSWERS_A_MOMENT = 12, 4
SEARCHED = "Keeper"
"""Stands in every passage, so that the lexical stage too must find all that is visible."""
KINDS = ("passages", "facts", "fact", "generated", "quoted", "nothing visible", "index behind", "features behind")
LATE = (BehindWatermark, DeadlineExceeded)
"""The latter where the machine is so busy that no time is left to say the former."""


async def check_search(world: World, backend: str, place: Place, moment: Moment) -> None:
    """All that is visible is found, by meaning and by words, and nothing else; it stands where it is said to stand."""
    filters = world.dice.choice([{}, {}, *FILTERS])
    found = await find(world, backend, place, moment, filters)
    expected = place.passages_at(moment, filters)
    assert {hit.hit.item_id for hit in found.hits if hit.hit.dense is not None} == set(expected)
    assert {hit.hit.item_id for hit in found.hits if hit.hit.lexical is not None} == set(expected)
    assert len(found.hits) == len(expected) and not found.degraded
    for hit in found.hits:
        version, passage = expected[hit.hit.item_id]
        row, located = place.versions[version], hit.located
        assert (located.version_id, located.doc_id, located.start) == (version, row.doc_id, passage.start)
        assert located.text == row.text[located.start : located.end] == row.text[passage.start : passage.end]
        assert (located.title, located.uri) == (row.title, row.uri)
        assert located.dated == (row.valid_from is not None)
        assert moment in located.extent and moment in hit.hit.extent
    world.looked_up["documents"] += len(place.documents)
    world.seen["passages"] += len(expected)
    world.shown[Shown("search", backend, place, moment, SEARCHED, filters)] = scores_of(found)


async def find(world: World, backend: str, place: Place, moment: Moment, filters: Mapping[str, Sequence[str]]) -> Found:
    generation = GENERATIONS[backend]
    scope = Scope(place.tenant, place.collection, generation.name, moment)
    return await search(world.nodes[backend], generation, scope, SEARCHED, 1_000, filters)


async def check_documents(world: World, backend: str, place: Place, moment: Moment) -> None:
    """The features of documents are those of the versions visible."""
    scope = Scope(place.tenant, place.collection, GENERATIONS[backend].name, moment)
    doc_ids = list(place.documents)
    rows = await world.nodes[backend].features.read(scope, DOCUMENTS, doc_ids)
    assert {row.entity: row.values["version_id"] for row in rows if row.found} == place.versions_at(moment)


def asked(world: World, backend: str, place: Place, moment: Moment, text: str) -> Question:
    filters = world.dice.choice([{}, {}, {}, *FILTERS])
    return Question(f"{text}{moment}", place.tenant, place.collection, text, moment, GENERATIONS[backend], filters)


async def check_fact(world: World, backend: str, place: Place, moment: Moment, canonical: str) -> None:
    nodes, said = world.nodes[backend], place.fact_at(canonical, moment)
    now = int(format_instant(moment.as_of)[:4])
    year = world.dice.choice([now, now + 1])
    text = world.dice.choice([canonical, canonical.lower(), f"{canonical[:-1]} in {year:04d}?"])
    if year != now and text.endswith(f"in {year:04d}?"):
        said = None
    by_meaning = await query_vector(nodes, GENERATIONS[backend], text)
    vector = world.dice.choice([None, by_meaning]) if text == canonical else by_meaning
    found = await find_fact(nodes, asked(world, backend, place, moment, text), vector)
    assert (found and found.fact_id) == said, text
    if found is not None:
        row = place.facts[found.fact_id]
        assert (found.question, found.answer, found.source) == (canonical, row.answer, row.source)
        assert moment in found.extent
    world.looked_up["facts"] += 1
    world.seen["facts"] += found is not None


async def check_answer(world: World, backend: str, place: Place, moment: Moment, text: str) -> None:
    """The answer rests on what is visible alone: its citations, its events, even what the generator was told."""
    question, told = asked(world, backend, place, moment, text), world.nodes[backend].generator.prompts
    told.clear()
    given, emitted = await ask(world, backend, question)
    check_shown(place, question, given, emitted, [message.content for one in told for message in one.messages])
    fact = place.fact_at(text, moment)
    assert not given.degraded and given.moment == moment and given.generation == GENERATIONS[backend].name
    if fact is not None:
        [citation] = given.citations
        assert (citation.kind, citation.version_id) == ("fact", fact)
        assert (given.answer, given.grounding) == (place.facts[fact].answer, "quoted")
    elif not place.passages_at(moment, question.filters):
        assert (given.answer, given.grounding, tuple(given.citations)) == (ABSTENTION, "abstained", ())
        world.seen["nothing visible"] += 1
    world.looked_up["answers"] += 1
    world.seen[given.grounding if fact is None else "fact"] += 1
    world.shown[Shown("answer", backend, place, moment, text, question.filters)] = repeatable(given)


async def ask(world: World, backend: str, question: Question) -> tuple[Answer, list[Event]]:
    emitted: list[Event] = []

    async def emit(event: Event) -> None:
        emitted.append(event)

    return await answer(world.nodes[backend], question, emit), emitted


def check_shown(place: Place, question: Question, given: Answer, emitted: Sequence[Event], told: Sequence[str]) -> None:
    moment, versions = question.moment, place.versions_at(question.moment)
    for citation in given.citations:
        assert citation.valid_from <= moment.as_of < citation.valid_to and citation.recorded_from <= moment.known_at
        if citation.kind == "fact":
            row = place.facts[citation.version_id]
            assert place.fact_at(row.question, moment) == citation.version_id
            assert (citation.quote, citation.uri) == (row.answer, row.source)
        else:
            assert versions[citation.doc_id] == citation.version_id
            version = place.versions[citation.version_id]
            assert citation.quote == version.text[citation.start : citation.end] != ""
            assert (citation.title, citation.uri) == (version.title, version.uri)
    assert "".join(event.data["text"] for event in emitted if event.kind == "text") == given.answer
    cited = [event.data["citation"] for event in emitted if event.kind == "citation"]
    assert cited == [citation.to_json() for citation in given.citations]
    shown = codewords(json.dumps([given.to_json(), [event.data for event in emitted], told]))
    assert shown <= place.may_show(moment), f"leaked: {shown - place.may_show(moment)}"


def repeatable(given: Answer) -> object:
    return given.answer, given.grounding, tuple(given.citations)


def scores_of(found: Found) -> dict[str, object]:
    """Cosine and BM25 of each passage; of a cosine near zero float32 leaves little that could be compared."""
    return {hit.hit.item_id: pytest.approx((hit.hit.dense, hit.hit.lexical), rel=1e-4, abs=1e-5) for hit in found.hits}


async def check_again(world: World, shown: Shown, before: object) -> None:
    """What was shown once at a moment is shown again, whatever was recorded since, here or elsewhere."""
    if shown.kind == "search":
        found = await find(world, shown.backend, shown.place, shown.moment, shown.filters)
        assert {hit.hit.item_id: (hit.hit.dense, hit.hit.lexical) for hit in found.hits} == before, shown
    else:
        question = shown.question
        assert repeatable((await ask(world, shown.backend, question))[0]) == before, shown


async def check_moment(world: World, backend: str, place: Place, as_of: int, known_at: int | None) -> None:
    moment = world.moment(backend, place, as_of, known_at)
    assert known_at is None or moment.known_at <= known_at
    try:
        await check_all(world, backend, place, moment)
    except Exception as error:
        error.add_note(f"{place} over {backend} at {moment}")
        raise


async def check_all(world: World, backend: str, place: Place, moment: Moment) -> None:
    await check_search(world, backend, place, moment)
    await check_documents(world, backend, place, moment)
    questions = list(place.questions) or ["Who leads Station0?"]
    for canonical in world.dice.choices(questions, k=FACTS_A_MOMENT):
        await check_fact(world, backend, place, moment, canonical)
    names = [doc_id.removeprefix("docs/") for doc_id in place.documents] or ["Dunmore0"]
    about = [f"Who is the keeper of {name}?" for name in world.dice.choices(names, k=ANSWERS_A_MOMENT)]
    for text in world.dice.sample([*about, *world.dice.choices(questions, k=ANSWERS_A_MOMENT)], ANSWERS_A_MOMENT):
        await check_answer(world, backend, place, moment, text)


async def check_behind(world: World, backend: str, place: Place, as_of: int) -> None:
    """A reader asked beyond its watermark does not answer from what it has."""
    moment = world.moment(backend, place, as_of, place.records[-1])
    nodes, where = world.nodes[backend], (place.tenant, place.collection)
    if await nodes.retriever.position(GENERATIONS[backend].name, *where) < moment.known_at:
        with deadline(0.3), pytest.raises(LATE):
            await find(world, backend, place, moment, {})
        world.seen["index behind"] += 1
    if await nodes.features.position(FACTS, *where) < moment.known_at:
        scope = Scope(*where, GENERATIONS[backend].name, moment)
        with deadline(0.3), pytest.raises(LATE):
            await nodes.features.read(scope, FACTS, ["any"])
        world.seen["features behind"] += 1
    text = world.dice.choice(list(place.questions) or ["Who leads Station0?"])
    question = asked(world, backend, place, moment, text)
    with deadline(0.3):
        try:
            given, emitted = await ask(world, backend, question)
        except (Unavailable, DeadlineExceeded):
            return
    check_shown(place, question, given, emitted, [])


async def live(world: World, histories: int) -> None:
    """Record everything stage by stage, the readers more or less behind, and check on the way."""
    schedule = scheduled(world.dice, world.places, histories)
    for stage in range(STAGES):
        for place in world.dice.sample(world.places, len(world.places)):
            await world.record(place, schedule[str(place)][stage])
            for backend in GENERATIONS:
                if stage == 0:
                    await world.advance(backend, place, place.records[-1])
                else:
                    await advance_somewhat(world, backend, place)
        for place in world.dice.sample(world.places, 3):
            as_of, _ = next(place.moments(world.dice))
            backend = world.dice.choice(list(GENERATIONS))
            await check_moment(world, backend, place, as_of, None)
            await check_behind(world, backend, place, as_of)


async def catch_up(world: World) -> None:
    """A question asked beyond a watermark waits for the reader, and then sees all."""
    for place in world.places:
        for backend in GENERATIONS:
            as_of, _ = next(place.moments(world.dice))
            newest = place.records[-1]
            async with asyncio.TaskGroup() as both:
                both.create_task(check_moment(world, backend, place, as_of, newest))
                both.create_task(world.advance(backend, place, newest))


async def check_world(seed: int, directory: Path, histories: int, lookups: int) -> World:
    with opened(seed, directory) as world:
        await live(world, histories)
        await catch_up(world)
        moments = {str(place): place.moments(world.dice) for place in world.places}
        rounds = 0
        while rounds < ROUNDS or world.looked_up.total() < lookups:
            for place in world.places:
                for backend in GENERATIONS:
                    await check_moment(world, backend, place, *next(moments[str(place)]))
            rounds += 1
        for shown in world.dice.sample(list(world.shown), len(world.shown) // 4):
            await check_again(world, shown, world.shown[shown])
        for nodes in world.nodes.values():
            await nodes.retriever.close()
    return world


@pytest.mark.timeout(120 + ROWS // 25)
def test_nothing_but_what_the_replay_of_the_log_says_is_found_answered_or_cited(seed, histories, tmp_path):
    worlds = max(1, round(histories / ROWS_A_WORLD))
    for world_seed in range(seed, seed + worlds):
        lookups = histories // worlds if histories > HISTORIES else 0
        try:
            world = asyncio.run(check_world(world_seed, tmp_path, min(histories, HISTORIES), lookups))
        except BaseException as error:
            error.add_note(f"seed {world_seed}")
            raise
        print(f"seed {world_seed}: looked up {dict(world.looked_up)}, of these {dict(world.seen)}")
        assert all(world.seen[kind] for kind in KINDS), f"too few kinds of case: {dict(world.seen)}"
