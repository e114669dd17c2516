"""A residency policy at work on an engine: by a clock of the test's own."""

from __future__ import annotations

import asyncio
import math
import random
import time
from contextlib import AsyncExitStack

import pytest

from benchmarks.residency import simulate
from services.common.errors import Conflict, Unavailable
from services.common.metrics import REGISTRY
from services.common.nodes.generator import Message, Prompt
from services.generator.adapters import AdapterEntry
from services.generator.backends.memory import MemoryBackend
from services.generator.generator import BoundedGenerator
from services.generator.residency import holding
from services.generator.residency.choosing import POLICIES, chosen
from services.generator.residency.holding import OnDemand
from services.generator.residency.keeper import Keeper
from services.generator.residency.policies import KeepAlive, LearnedHazard, PoissonPreload, Policy
from services.generator.settings import GeneratorSettings


class Engine:
    """Holds what it is told to. A load takes until it is let on, if it is held up."""

    def __init__(self, policy: Policy, budget: float = math.inf, sizes: dict[str, int] | None = None) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.held: set[str] = set()
        self.on = asyncio.Event()
        self.on.set()
        self.failing = False
        keeper = Keeper(policy, budget)
        self.adapters = OnDemand(
            self.load, self.unload, keeper=keeper, sizes=sizes or dict.fromkeys("abc", 1), clock=lambda: self.now
        )

    async def load(self, name: str) -> None:
        self.told.append(f"load {name}")
        await self.on.wait()
        if self.failing:
            raise Unavailable("no such directory")
        self.held.add(name)

    async def unload(self, name: str) -> None:
        self.told.append(f"unload {name}")
        await asyncio.sleep(0)
        self.held.remove(name)

    async def ask(self, name: str, at: float) -> None:
        self.now = at
        async with self.adapters.using(name):
            assert name in self.held

    async def wait(self, until: float) -> None:
        self.now = until
        await self.adapters.tick()
        await asyncio.sleep(0.01)


def figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"almanac_generator_{name}", {"kind": "adapter", **labels}) or 0.0


async def test_it_goes_when_its_time_is_over_and_comes_back_when_asked_for() -> None:
    engine = Engine(KeepAlive(10))
    await engine.ask("a", 0)
    await engine.wait(9)
    await engine.ask("a", 9)
    await engine.wait(18)
    assert engine.held == {"a"}
    await engine.wait(19)
    assert engine.held == set()
    await engine.ask("a", 30)
    assert engine.told == ["load a", "unload a", "load a"]
    shown = engine.adapters.show("a")
    assert (shown.loaded, shown.loads, shown.cold_starts, shown.resident_seconds) == (True, 2, 2, 19.0)


async def test_it_is_fetched_ahead_of_the_request_that_is_expected() -> None:
    engine = Engine(PoissonPreload(window=4))
    before = figure("loads_total", type="ahead"), figure("starts_total", state="cold")
    for at in range(0, 361, 90):
        await engine.wait(at - 1)
        await engine.ask("a", at)
    await engine.wait(361)
    assert engine.held == set()
    await engine.wait(368)  # 7.425 s on an arrival has become likely: 6 %
    assert engine.held == {"a"}
    await engine.ask("a", 370)
    assert figure("loads_total", type="ahead") - before[0] == 3, "from the third request on its rate is known"
    assert figure("starts_total", state="cold") - before[1] == engine.adapters.show("a").cold_starts == 1


async def test_within_the_budget_what_is_wanted_least_makes_room() -> None:
    engine = Engine(KeepAlive(100), budget=2)
    before = figure("unloads_total", type="room")
    for at, name in enumerate("abc"):
        await engine.ask(name, at)
    assert engine.held == {"b", "c"}
    assert engine.told[-2:] == ["unload a", "load c"]
    assert figure("unloads_total", type="room") - before == 1


async def test_what_is_pinned_never_leaves() -> None:
    engine = Engine(KeepAlive(10), budget=2)
    await engine.adapters.load("a", pinned=True)
    await engine.ask("b", 1)
    await engine.ask("c", 2)
    await engine.wait(1e6)
    assert engine.held == {"a"}
    assert engine.told[:4] == ["load a", "load b", "unload b", "load c"]


async def test_a_load_is_shared_and_goes_on_when_who_began_it_leaves() -> None:
    engine = Engine(KeepAlive(10))
    engine.on.clear()
    first, second = (asyncio.ensure_future(engine.ask("a", 0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    engine.on.set()
    await second
    assert engine.told == ["load a"]
    assert engine.adapters.show("a").cold_starts == 1


@pytest.mark.parametrize("why", ["idle", "room"])
async def test_nothing_is_taken_from_under_a_running_answer(why: str) -> None:
    engine = Engine(KeepAlive(10), budget=1)
    async with AsyncExitStack() as answers:
        await answers.enter_async_context(engine.adapters.using("a"))
        if why == "idle":
            await engine.wait(1000)
        else:
            await engine.ask("b", 1)
        assert "a" in engine.held
        with pytest.raises(Conflict, match="in use by 1"):
            await engine.adapters.unload("a")
    await asyncio.sleep(0.01)
    assert "a" not in engine.held


async def test_one_that_is_asked_for_again_while_it_is_to_leave_stays() -> None:
    engine = Engine(KeepAlive(10))
    async with engine.adapters.using("a"):
        await engine.wait(1000)
        await engine.ask("a", 1001)
    await engine.wait(1002)
    assert engine.told == ["load a"]


async def test_a_request_that_comes_while_it_is_unloaded_loads_it_again() -> None:
    engine = Engine(KeepAlive(10))
    await engine.ask("a", 0)
    leaving = asyncio.ensure_future(engine.wait(10))
    await asyncio.sleep(0)
    await engine.ask("a", 10)
    await leaving
    assert engine.told == ["load a", "unload a", "load a"]


async def test_one_that_cannot_be_loaded_takes_no_budget() -> None:
    engine = Engine(KeepAlive(100), budget=1)
    await engine.ask("a", 0)
    engine.failing = True
    with pytest.raises(Unavailable):
        await engine.ask("b", 1)
    engine.failing = False
    await engine.ask("a", 2)
    assert engine.told == ["load a", "unload a", "load b", "load a"]


async def test_many_answers_at_random_never_lose_their_adapter(seed: int) -> None:
    engine = Engine(KeepAlive(0.5), budget=2)
    draw = random.Random(seed)

    async def answer() -> None:
        name = draw.choice("abc")
        async with engine.adapters.using(name):
            for _ in range(draw.randrange(5)):
                assert name in engine.held
                await asyncio.sleep(0)

    async def play() -> None:
        for _ in range(200):
            engine.now += draw.random()
            await asyncio.gather(*(answer() for _ in range(draw.randrange(4))), engine.adapters.tick())

    await play()
    await engine.wait(1e9)
    assert engine.held == set()
    assert engine.told.count("load a") == engine.told.count("unload a") > 1


async def test_the_engine_does_what_the_simulation_of_the_policies_reckons_with(seed: int) -> None:
    draw, at = random.Random(seed), 0.0
    arrivals = [(at := at + draw.expovariate(0.05), draw.choice("aaab")) for _ in range(400)]
    keeper, now = Keeper(LearnedHazard(patience=60), budget=1), arrivals[0][0]
    adapters = OnDemand(keeper=keeper, sizes={"a": 1, "b": 1}, clock=lambda: now)
    for at, name in arrivals:
        while (due := keeper.next_due()) is not None and due <= at:
            now = due
            await adapters.tick()
        now = at
        async with adapters.using(name):
            pass
    shown = [adapters.show(name) for name in "ab"]
    reckoned = simulate(arrivals, LearnedHazard(patience=60), load_seconds=0.0, budget=1)
    assert sum(one.cold_starts for one in shown) / len(arrivals) == pytest.approx(reckoned["cold"], abs=1e-4)
    took = sum(one.resident_seconds for one in shown) / (2 * (arrivals[-1][0] - arrivals[0][0]))
    assert took == pytest.approx(reckoned["residency"], abs=1e-3)
    assert 0.05 < reckoned["cold"] < 0.95


def test_every_policy_of_the_settings_makes_a_keeper_of_bytes() -> None:
    for name in POLICIES:
        keeper = chosen(GeneratorSettings(generator_residency=name, generator_residency_mib=1))
        for adapter in "ab":
            keeper.add(adapter, 1 << 20)
            keeper.arrived(adapter, 0.0)
        assert keeper.resident() == {"b"}


async def test_a_generator_lets_go_of_what_was_asked_for_too_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_EVERY_SECONDS", 0.01)
    keeper = chosen(GeneratorSettings(generator_residency="keep-alive", generator_residency_seconds=0.01))
    generator = BoundedGenerator(MemoryBackend(keeper=keeper), adapters={"terse": AdapterEntry(source="-")})
    await generator.start()
    asked = Prompt("t", (Message("user", "Hi."),), adapter="terse")
    assert "".join([chunk.text async for chunk in generator.generate(asked)]) == "Hi."
    began = time.monotonic()
    while (await generator.adapters("t"))[0].loaded:
        assert time.monotonic() - began < 10
        await asyncio.sleep(0.01)
    await generator.close()
