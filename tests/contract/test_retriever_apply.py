"""What every retriever keeps to: stretches, watermarks, generations, and what it refuses."""

import asyncio

import numpy as np
import pytest

from services.common.errors import BehindWatermark, Conflict, InvalidRequest
from services.common.moment import OPEN_END, OPEN_START
from services.common.nodes.retriever import Close
from services.common.nodes.scope import Stretch
from services.common.rpc.deadlines import deadline
from tests.fakes.retriever import ANY, DIMENSIONS, DURABLE, apply, changes, found, point, query, retriever_over


async def test_applying_a_stretch_again_is_harmless_and_reopens_nothing(retriever):
    first, second = changes([point("p")]), changes([point("new", recorded=(12, OPEN_END))], [Close("p", 12)])
    await apply(retriever, first, end=10)
    await apply(retriever, second, start=10, end=20)
    assert await apply(retriever, first, end=10) == 20
    assert await apply(retriever, second, start=10, end=20) == 20
    assert await apply(retriever, first, changes([point("newest", recorded=(25, OPEN_END))]), end=30) == 30
    assert await found(retriever, known_at=30) == {"new", "newest"}
    assert await found(retriever, known_at=11) == {"p"}


async def test_a_stretch_that_leaves_a_gap_is_refused_and_says_the_position(retriever):
    await apply(retriever, changes([point("p")]), end=10)
    with pytest.raises(Conflict, match="at 10 "):
        await apply(retriever, start=11, end=20)
    assert await retriever.position("g1", "acme", "notes") == 10


async def test_an_empty_stretch_moves_the_watermark(retriever):
    assert await apply(retriever, end=7) == 7
    assert await retriever.position("g1", "acme", "notes") == 7
    assert await found(retriever, known_at=7) == set()


async def test_what_was_never_applied_is_at_the_open_start(retriever):
    assert await retriever.position("g1", "acme", "notes") == OPEN_START
    await apply(retriever)
    assert await retriever.position("g1", "acme", "other") == OPEN_START
    assert await retriever.position("g1", "rival", "notes") == OPEN_START


async def test_a_search_beyond_the_watermark_waits_for_it(retriever):
    await apply(retriever, end=10)
    waiting = asyncio.create_task(found(retriever, known_at=20))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await apply(retriever, changes([point("p", recorded=(20, OPEN_END))]), start=10, end=20)
    assert await waiting == {"p"}


async def test_a_search_beyond_the_watermark_fails_in_time(retriever):
    await apply(retriever, end=10)
    with deadline(0.3), pytest.raises(BehindWatermark, match="known_at"):
        await found(retriever, known_at=11)


async def test_generations_live_side_by_side(retriever):
    await apply(retriever, changes([point("old")]), generation="g1")
    wide = changes([point("new")], vectors=np.ones((1, 3), dtype=np.float32))
    await apply(retriever, wide, generation="g2.b-1", end=20)
    assert await found(retriever) == {"old"}
    assert await found(retriever, generation="g2.b-1", vector=np.ones(3, dtype=np.float32)) == {"new"}
    assert await retriever.position("g1", "acme", "notes") == 10


async def test_an_unknown_generation_is_not_found(retriever):
    with pytest.raises(BehindWatermark, match="g9"):
        await found(retriever, generation="g9")
    assert await retriever.position("g9", "acme", "notes") == OPEN_START


@pytest.mark.parametrize("name", ["../g1", ".hidden", "a/b", "x" * 101, "g 1"])
async def test_a_generation_cannot_be_named_like_a_path(retriever, name):
    for attempt in (apply(retriever, generation=name), found(retriever, generation=name)):
        with pytest.raises(InvalidRequest, match="name"):
            await attempt


async def test_a_wrong_search_is_refused(retriever):
    await apply(retriever, changes([point("p")]))
    wrong = [
        {"limit": 0},
        {"limit": 1_001},
        {"vector": None},
        {"vector": np.ones(DIMENSIONS + 1, dtype=np.float32)},
        {"vector": np.ones((1, DIMENSIONS), dtype=np.float32)},
        {"vector": np.full(DIMENSIONS, np.nan, dtype=np.float32)},
    ]
    for asked in wrong:
        with pytest.raises(InvalidRequest):
            await found(retriever, **asked)


async def test_a_wrong_change_is_refused_and_moves_nothing(retriever):
    await apply(retriever, changes([point("p")]))
    wrong = [
        changes([point("early", recorded=(10, OPEN_END))]),
        changes([point("late", recorded=(21, OPEN_END))]),
        changes([point("empty", recorded=(15, OPEN_END), valid=(5, 5))]),
        changes(closes=[Close("p", 21)]),
        changes([point("x", recorded=(15, OPEN_END))], vectors=np.ones((2, DIMENSIONS), dtype=np.float32)),
        changes([point("x", recorded=(15, OPEN_END))], vectors=np.ones((1, 3), dtype=np.float32)),
        changes([point("x", recorded=(15, OPEN_END))], vectors=np.full((1, DIMENSIONS), np.nan, dtype=np.float32)),
    ]
    for batch in wrong:
        with pytest.raises(InvalidRequest):
            await apply(retriever, batch, start=10, end=20)
    with pytest.raises(Conflict, match="rebuild"):
        await apply(retriever, changes(closes=[Close("unknown", 15)]), start=10, end=20)
    with pytest.raises(InvalidRequest):
        await apply(retriever, start=10, end=9)
    assert await retriever.position("g1", "acme", "notes") == 10
    assert await found(retriever) == {"p"}


async def test_a_stretch_that_broke_off_shows_nothing_and_can_be_applied_again(retriever):
    await apply(retriever, changes([point("p")]))

    async def breaking():
        yield changes([point("half", recorded=(11, OPEN_END))], [Close("p", 12)])
        raise RuntimeError("the pipeline died")

    with pytest.raises((RuntimeError, asyncio.CancelledError)):
        await retriever.apply("g1", Stretch("acme", "notes", 10, 20), breaking())
    assert await found(retriever) == {"p"}
    with deadline(0.3), pytest.raises(BehindWatermark):
        await found(retriever, known_at=11)
    await apply(
        retriever,
        changes([point("half", recorded=(11, OPEN_END))], [Close("p", 12)]),
        changes([point("whole", recorded=(13, OPEN_END))]),
        start=10,
        end=20,
    )
    assert await found(retriever, known_at=11) == {"p", "half"}
    assert await found(retriever, known_at=20) == {"half", "whole"}


async def test_applies_of_one_collection_take_turns(retriever):
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow():
        yield changes([point("first", recorded=(5, OPEN_END))])
        entered.set()
        await go_on.wait()

    one = asyncio.create_task(retriever.apply("g1", Stretch("acme", "notes", OPEN_START, 10), slow()))
    await entered.wait()
    two = asyncio.create_task(apply(retriever, changes([point("second", recorded=(15, OPEN_END))]), start=10, end=20))
    await asyncio.sleep(0.05)
    assert not two.done()
    go_on.set()
    assert (await one, await two) == (10, 20)
    assert await found(retriever, known_at=20) == {"first", "second"}


@pytest.mark.parametrize("backend", DURABLE)
async def test_a_restart_keeps_points_and_watermarks(index_dir, backend):
    before = retriever_over(backend, index_dir)
    await apply(before, changes([point("p", text="owl"), point("gone")]), end=10)
    await apply(before, changes(closes=[Close("gone", 15)]), start=10, end=20)
    hits = (await before.search(query("owl", ANY, known_at=20))).hits
    await before.close()
    after = retriever_over(backend, index_dir)
    assert await after.position("g1", "acme", "notes") == 20
    assert (await after.search(query("owl", ANY, known_at=20))).hits == hits
    assert await found(after, known_at=14) == {"p", "gone"}
    await apply(after, changes([point("q", recorded=(25, OPEN_END))]), start=20, end=30)
    assert await found(after, known_at=30) == {"p", "q"}
    await after.close()
