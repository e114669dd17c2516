"""As many answers at once as end in time, at the pace of the last: the script over a real Valkey, time by the test."""

import heapq
import random

import pytest
from redis.asyncio import Redis

from services.common.errors import Unavailable
from services.gateway.limits import leases as of_leases
from services.gateway.limits.leases import LEAST, Leases, Refused
from services.orchestrator.graph.answer import Event
from tests.fakes.gateway import COLLECTION, answering, client_of, gateway

WITHIN = 10.0
SEED = 20261121


@pytest.fixture
async def redis(valkey):
    async with Redis(unix_socket_path=str(valkey.socket)) as opened:
        yield opened


class Clock:
    """Milliseconds, as the test has it; it begins late enough not to be none."""

    def __init__(self):
        self.seconds = 1_000_000.0

    def __call__(self):
        return int(self.seconds * 1000)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def leases(redis, clock):
    """Those of answers, in the test's time."""

    def opened(total=0, within=WITHIN):
        return Leases(redis, "answers", most=0, total=total, within=within, seconds=1e5, clock=clock)

    return opened


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


async def served(held, clock, count, took, seconds=300.0):
    """That many answers at once, over and over, each of which takes so many seconds."""
    flying = [await held.acquire("t") for _ in range(count)]
    for _ in range(int(seconds / took * count)):
        clock.seconds += took / count
        await held.release("t", flying.pop(0), 1)
        flying.append(await held.acquire("t"))
    for lease in flying:
        await held.release("t", lease)


async def shared(held, clock, load, answers):
    """Poisson arrivals at a processor that all share, one second of it for each in the mean (M/M/1-PS)."""
    draw = random.Random(SEED)
    work = 0.0
    """What each of those in flight has had of the processor since the beginning, which is when it ends too."""
    coming, flying, refused, began = clock.seconds + draw.expovariate(load), [], 0, clock.seconds
    for _ in range(2 * answers):
        ends = clock.seconds + (flying[0][0] - work) * len(flying) if flying else float("inf")
        until = min(ends, coming)
        work += (until - clock.seconds) / len(flying) if flying else 0.0
        clock.seconds = until
        if ends <= coming:
            await held.release("t", heapq.heappop(flying)[1], 1)
            continue
        coming += draw.expovariate(load)
        try:
            lease = await held.acquire("t")
            heapq.heappush(flying, (work + draw.expovariate(1.0), lease))
        except Refused:
            refused += 1
    for _, lease in flying:
        await held.release("t", lease)
    return refused / (load * (clock.seconds - began))


async def test_nothing_is_known_at_first_and_the_given_bound_holds(leases):
    assert await room(leases(total=12)) == 12


async def test_while_none_has_ended_fewer_are_admitted_the_longer_that_takes(leases, clock):
    first = await leases(within=0).acquire("t")
    await leases().release("t", await leases().acquire("t"))
    bounds = []
    for _ in range(3):
        clock.seconds += 1
        bounds.append(1 + await room(leases()))
    await leases().release("t", first)
    assert bounds == [10, 5, LEAST]


@pytest.mark.parametrize("count", [1, 4, 8])
async def test_on_a_processor_that_all_share_as_many_are_admitted_however_many_there_were(leases, clock, count):
    await served(leases(), clock, count, took=count / 0.8)
    assert await room(leases()) == 0.8 * WITHIN


async def test_what_ends_one_after_the_other_when_all_began_at_once_misleads_nobody(leases, clock):
    held = leases(within=0)
    flying = [await held.acquire("t") for _ in range(8)]
    paced = leases()
    await paced.release("t", await paced.acquire("t"))
    for lease in flying:
        clock.seconds += 1 / 0.8
        await paced.release("t", lease, 1)
    assert await room(paced) == 0.8 * WITHIN


async def test_where_none_slows_another_the_bound_grows_with_their_number(leases, clock):
    bounds = []
    for _ in range(3):
        await served(leases(total=100), clock, bounds[-1] if bounds else 1, took=2.0, seconds=150.0)
        bounds.append(await room(leases(total=100)))
    assert bounds[0] == 5 and 20 <= bounds[1] <= 25 and 90 <= bounds[2] <= 100


async def test_some_are_admitted_however_long_they_take(leases, clock):
    await served(leases(), clock, 2, took=100.0)
    assert await room(leases()) == LEAST
    await served(leases(), clock, LEAST, took=LEAST / 0.8)
    assert await room(leases()) == 0.8 * WITHIN


async def test_without_a_time_the_pace_is_not_asked(leases, clock):
    await served(leases(), clock, 2, took=100.0)
    assert await room(leases(total=12, within=0)) == 12


async def test_time_in_which_nothing_is_asked_does_not_count(leases, clock):
    await served(leases(), clock, 4, took=5.0)
    clock.seconds += 3_000
    assert await room(leases()) == 0.8 * WITHIN


async def test_the_gateway_learns_from_answers_given_afresh_and_to_their_end(tmp_path, redis, valkey, monkeypatch):
    monkeypatch.setattr(of_leases, "_MEMORY", (1e12, 3_600))
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
    learnt = await redis.hget("almanac:limits:answers-pace", "ended")
    assert float(learnt) == pytest.approx(4)


@pytest.mark.parametrize("load", [0.5, 0.9, 2.0])
async def test_it_is_what_the_processor_carries_at_half_and_at_twice_the_load(leases, clock, monkeypatch, load):
    """M/M/1-PS carries one a second at any load, so ten are admitted within ten seconds."""
    monkeypatch.setattr(of_leases, "_MEMORY", (1_000_000.0, 3_600))
    refused = await shared(leases(), clock, load, 1_500)
    found = await room(leases())
    print(f"load {load}: {found} within {WITHIN:g} s, {refused:.0%} refused")
    assert abs(found - WITHIN) <= 1
    assert (refused > 0.4) == (load > 1)
