"""The promise of replays: an answer given again at its moment is the same, whatever was recorded since.

Generated histories go through the catalog into the real retriever and features objects, once over the in-memory index
and once over Qdrant Edge. Answers are given and recorded at random moments; then corrections and new documents follow,
every reader is opened anew, and each answer is replayed. ALMANAC_PROPERTY_ROWS sets how many answers there are, up to
1000; ten times as many passages are recorded after them. A failure names the answer and prints its seed.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from services.catalog import answers
from services.catalog.engine import Database
from services.catalog.generations import start
from services.catalog.records import DocumentIn
from services.common.nodes.funnel import DEFAULT
from services.common.nodes.generator import Prompt
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.orchestrator.graph.answer import Event, Question
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.replaying import Replay, replay
from services.orchestrator.graph.run import answer
from tests.fakes.generator import FakeGenerator
from tests.fakes.retriever import index_directory, retriever_over
from tests.fakes.world import GENERATIONS, MODEL, STAGES, World, opened, scheduled
from tests.property.oracle import FILTERS, Place, Row

USED = {"memory": GENERATIONS["memory"], "edge": replace(GENERATIONS["edge"], funnel=DEFAULT)}
ROWS = int(os.environ.get("ALMANAC_PROPERTY_ROWS", "1000"))
ANSWERS = min(1_000, max(40, ROWS // 25))
LATER = 10 * ANSWERS
"""Passages recorded after the answers, at least."""
HISTORIES = LATER // 2
MOST_IMPORTED = 1_000
"""With more histories an imported past would reach into the future."""
NOBODY = "Who is the keeper of nothing?"
WEIGHTS = ({}, {}, {"recency": 0.5, "authority": 0.25})


def repeat(prompt: Prompt) -> str:
    """A generator that says most of one of the quotes; which one depends on the whole prompt."""
    quotes = [line.partition(": ")[2] for line in prompt.messages[-1].content.splitlines() if line.startswith("[")]
    return random.Random(prompt.messages[-1].content).choice(quotes)[len("The ") :]


async def silent(_: Event) -> None:
    return None


async def ask(world: World, backend: str, place: Place) -> str:
    """Ask at a random moment; the recorded answer's id."""
    dice, generation = world.dice, USED[backend]
    moments = place.moments(dice)
    drawn = [world.moment(backend, place, *next(moments)) for _ in range(dice.choice([1, 6]))]
    moment = max(drawn, key=lambda moment: len(place.versions_at(moment)))
    about = [f"Who is the keeper of {doc_id.removeprefix('docs/')}?" for doc_id in place.versions_at(moment)]
    text = dice.choice(dice.choice([about or [NOBODY], list(place.questions) or [NOBODY]]))
    filters, weights = dice.choice([{}, {}, *FILTERS]), dice.choice(WEIGHTS)
    generate, exact = dice.random() < 0.75, dice.random() < 0.5
    where = (place.tenant, place.collection)
    question = Question("", *where, text, moment, generation, filters, generate, weights=weights, exact=exact)
    with world.catalog.write() as tx:
        answer_id = answers.create(tx, *where, question.to_json())
    given = await answer(world.nodes[backend], replace(question, answer_id=answer_id), silent)
    with world.catalog.write() as tx:
        assert answers.record(tx, answer_id, 1, answers.DONE, given.to_json())
    world.seen["fact" if given.basis.fact_id else given.grounding] += 1
    world.seen["exact" if given.exact else "approximate"] += 1
    return answer_id


async def record(world: World, schedule: dict[str, list[list[Row]]], stages: Sequence[int]) -> int:
    """Record some stages of every place and bring every reader up to it; how many passages that were."""
    passages = 0
    for stage in stages:
        for place in world.places:
            await world.record(place, schedule[str(place)][stage])
            passages += sum(len(row.passages) for row in schedule[str(place)][stage] if isinstance(row, DocumentIn))
    await catch_up(world)
    return passages


async def catch_up(world: World) -> None:
    for place in world.places:
        for backend, generation in USED.items():
            if place.records:
                await world.readers(backend).advance(generation, place.tenant, place.collection, place.records[-1])


async def restart(world: World, url: str, index: Path) -> None:
    """The catalog's and the index's files opened anew; what lay in memory is built again from the catalog."""
    for nodes in world.nodes.values():
        await nodes.retriever.close()
    world.catalog.close()
    world.catalog = Database(url)
    features = PointInTimeFeatures(MemoryBackend())
    for name in USED:
        retriever = retriever_over(name, index, retriever_exact_below=0, retriever_build_above=100)
        world.nodes[name] = Nodes(world.catalog, world.encoder, retriever, features, FakeGenerator(repeat))
    await catch_up(world)


async def again(world: World, backend: str, place: Place, answer_id: str) -> Replay:
    stored = await world.catalog.reading(lambda tx: answers.stored(tx, place.tenant, answer_id))
    return await replay(world.nodes[backend], stored)


async def check(seed: int, directory: Path, index: Path) -> tuple[World, int, list[float]]:
    with opened(seed, directory) as world:
        if HISTORIES > MOST_IMPORTED:
            world.places = [place for place in world.places if not place.history_job]
        with world.catalog.write() as tx:
            assert start(tx, MODEL, 64, DEFAULT) == USED["edge"]
        await restart(world, str(world.catalog.engine.url), index)
        schedule = scheduled(world.dice, world.places, HISTORIES)
        await record(world, schedule, range(2))
        asked = []
        for _ in range(ANSWERS):
            place, backend = world.dice.choice(world.places), world.dice.choice(list(USED))
            asked.append((backend, place, await ask(world, backend, place)))
        later = await record(world, schedule, range(2, STAGES))
        await restart(world, str(world.catalog.engine.url), index)
        overlaps = []
        for backend, place, answer_id in asked:
            found = await again(world, backend, place, answer_id)
            told = f"{found.question} over {backend}: {found.differences}"
            assert found.identical or not found.exact, told
            assert all(one.why == "approximate search" for one in found.differences), told
            overlaps += [] if found.exact or found.overlap is None else [found.overlap]
            world.seen["identical"] += found.identical
        for nodes in world.nodes.values():
            await nodes.retriever.close()
        world.catalog.close()
        return world, later, overlaps


@pytest.mark.slow
@pytest.mark.timeout(180 + 2 * ANSWERS)
def test_answers_replay_identically_after_a_restart_and_all_that_was_recorded_since(seed, tmp_path):
    with index_directory() as index:
        world, later, overlaps = asyncio.run(check(seed, tmp_path, index))
    print(f"seed {seed}: {ANSWERS} answers, {later} passages later: {dict(world.seen)}, overlaps {Counter(overlaps)}")
    assert later >= LATER
    assert all(world.seen[kind] for kind in ("fact", "generated", "abstained", "exact"))
    assert world.seen["quoted"] or ANSWERS < 200, "so many answers, and none was quoted"
