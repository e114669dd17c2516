"""As many answers at once as end in time, at the pace of the last: the script over a real Valkey, time by the test."""

import heapq
import random

import pytest
from redis.asyncio import Redis

from services.common.errors import Unavailable
from services.gateway.limits.leases import LEAST, MEMORY, Leases, Refused
from services.orchestrator.graph.answer import Event
from tests.fakes.gateway import COLLECTION, answering, client_of, gateway

WITHIN = 10.0
SEED = 20261121


@pytest.fixture
async def redis(valkey):
    async with Redis(unix_socket_path=str(valkey.socket)) as opened:
        yield opened


def leases(redis, total=0, within=WITHIN):
    return Leases(redis, "answers", most=0, total=total, within=within)


async def room(held):
    """How many are admitted one after the other; they end at once, and nothing is learnt of them."""
    admitted = []
    try:
        while len(admitted) < 200:
            admitted.append(await held.acquire("t"))
    except Refused as refused:
        assert refused.full
    for lease in admitted:
        await held.release("t", lease)
    return len(admitted)


async def served(redis, count, took, answers=4 * MEMORY):
    """That many answers at once, over and over, as if each took so many seconds."""
    held = leases(redis, within=0)
    flying = [await held.acquire("t") for _ in range(count)]
    for _ in range(answers):
        await held.release("t", flying.pop(0), took)
        flying.append(await held.acquire("t"))
    for lease in flying:
        await held.release("t", lease)


async def shared(held, load, answers):
    """Poisson arrivals at a processor that all share, one second of it for each in the mean (M/M/1-PS)."""
    draw = random.Random(SEED)
    clock = work = 0.0
    """work: what each of those in flight has had of the processor since the beginning, which is when it ends too."""
    coming, flying, refused = draw.expovariate(load), [], 0
    for _ in range(2 * answers):
        ends = clock + (flying[0][0] - work) * len(flying) if flying else float("inf")
        until = min(ends, coming)
        work += (until - clock) / len(flying) if flying else 0.0
        clock = until
        if ends <= coming:
            _, began, lease = heapq.heappop(flying)
            await held.release("t", lease, clock - began)
            continue
        coming += draw.expovariate(load)
        try:
            lease = await held.acquire("t")
            heapq.heappush(flying, (work + draw.expovariate(1.0), clock, lease))
        except Refused:
            refused += 1
    for _, _, lease in flying:
        await held.release("t", lease)
    return refused / answers


async def test_nothing_is_known_at_first_and_the_given_bound_holds(redis):
    assert await room(leases(redis, total=12)) == 12


@pytest.mark.parametrize("count", [1, 4, 10])
async def test_on_a_processor_that_all_share_as_many_are_admitted_however_many_there_were(redis, count):
    await served(redis, count, took=count / 0.8)
    assert await room(leases(redis)) == 0.8 * WITHIN


async def test_where_none_slows_another_the_bound_grows_with_their_number(redis):
    held = leases(redis, total=100)
    bounds = []
    for _ in range(3):
        await served(redis, bounds[-1] if bounds else 1, took=2.0)
        bounds.append(await room(held))
    assert bounds == [5, 25, 100]


async def test_some_are_admitted_however_long_they_take(redis):
    held = leases(redis)
    await served(redis, 2, took=100.0)
    assert await room(held) == LEAST
    await served(redis, LEAST, took=LEAST / 0.8, answers=12 * MEMORY)
    assert await room(held) == 0.8 * WITHIN


async def test_without_a_time_the_pace_is_not_asked(redis):
    await served(redis, 2, took=100.0)
    assert await room(leases(redis, total=12, within=0)) == 12


async def test_one_that_was_given_up_teaches_nothing(redis):
    held = leases(redis)
    await served(redis, 8, took=10.0)
    for _ in range(MEMORY):
        await held.release("t", await held.acquire("t"))
        await held.release("t", "nobody's", 0.001)
    assert await room(held) == 8


async def test_the_gateway_learns_from_answers_given_afresh_and_to_their_end(tmp_path, redis, valkey):
    fresh, cached = answering(), answering(cached_from="another")

    async def by_its_words(question, emit):
        if question.text == "fail":
            await emit(Event("error", {"problem": Unavailable("gone").problem()}))
        else:
            await (cached if question.text == "again" else fresh)(question, emit)

    settings = {"broker_url": f"unix://{valkey.socket}"}
    async with gateway(tmp_path, by_its_words, **settings) as app, client_of(app) as client:
        for text in ("fail", "again", "fresh", "fresh"):
            for stream in (False, True):
                body = {"question": text, "collection": COLLECTION, "stream": stream}
                await client.post("/v1/answers", json=body)
    assert await redis.hget("almanac:limits:answers-pace", "answers") == b"4"


@pytest.mark.parametrize("load", [0.5, 0.9, 2.0])
async def test_it_is_what_the_processor_carries_at_half_and_at_twice_the_load(redis, load, monkeypatch):
    """M/M/1-PS carries one a second at any load, so ten are admitted within ten seconds."""
    monkeypatch.setattr("services.gateway.limits.leases.MEMORY", 400)
    held = leases(redis)
    refused = await shared(held, load, 1_500)
    found = await room(held)
    print(f"load {load}: {found} within {WITHIN:g} s, {refused:.0%} refused")
    assert found == pytest.approx(WITHIN, rel=0.3)
    assert (refused > 0.4) == (load > 1)
