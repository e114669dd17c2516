"""Which models stay in memory, and for how long."""

from __future__ import annotations

import math
import random

import pytest

from services.generator.residency.keeper import Action, Keeper
from services.generator.residency.policies import FOREVER, KeepAlive, LearnedHazard, Plan, PoissonPreload, Policy, Span


def told(policy: PoissonPreload | LearnedHazard, gaps: list[float], name: str = "one") -> None:
    at = 0.0
    policy.arrived(name, at)
    for gap in gaps:
        at += gap
        policy.arrived(name, at)


def test_preloading_follows_the_published_example() -> None:
    policy = PoissonPreload(window=4)
    told(policy, [90.0] * 4)  # (4 - 1) / 360 s is 0.5 a minute
    (span,) = policy.plan("one")
    assert span.start == pytest.approx(7.425, abs=0.001)
    assert span.end / 60 == pytest.approx(5.627, abs=0.001)


def test_holding_begins_at_once() -> None:
    policy = PoissonPreload(window=4, load=0.0)
    told(policy, [90.0] * 4)
    assert policy.plan("one")[0].start == 0.0


def test_the_estimated_rate_is_unbiased(seed: int) -> None:
    draw = random.Random(seed)
    rates = []
    for _ in range(4000):
        policy = PoissonPreload(window=5)
        told(policy, [draw.expovariate(2.0) for _ in range(5)])
        rates.append(policy.rate("one", 0.0))
    assert sum(rates) / len(rates) == pytest.approx(2.0, rel=0.05)


def test_little_known_is_held() -> None:
    assert PoissonPreload(window=5).plan("new") == FOREVER
    assert LearnedHazard(patience=90).plan("new") == (Span(0.0, 90.0),)


def test_only_the_window_counts() -> None:
    policy = PoissonPreload(window=3)
    told(policy, [1.0] * 50 + [100.0] * 3)
    assert policy.rate("one", 0.0) == pytest.approx(2 / 300)


def test_learned_stays_through_bursts_and_leaves_after_them() -> None:
    policy = LearnedHazard(patience=100)
    told(policy, ([5.0] * 9 + [5000.0]) * 40)
    (span,) = policy.plan("one")
    assert 5 < span.end < 200


def test_learned_holds_what_comes_too_rarely_no_longer_than_a_load_takes() -> None:
    policy = LearnedHazard(patience=100)
    told(policy, [4000.0 + n for n in range(100)])
    assert policy.plan("one") == (Span(0.0, 60.0),)


def test_learned_counts_models_of_the_same_state_together() -> None:
    policy = LearnedHazard(patience=100)
    told(policy, ([5.0] * 9 + [5000.0]) * 40, "old")
    told(policy, [5.0] * 5, "young")
    assert policy.plan("young")[0].end < 1000


class TestKeeper:
    def test_loads_what_is_asked_for_and_unloads_it_later(self) -> None:
        keeper = keeping(KeepAlive(10), "a")
        assert keeper.arrived("a", 0) == [Action("load", "a")]
        assert keeper.arrived("a", 5) == []
        assert keeper.due(14.9) == []
        assert keeper.next_due() == 15
        assert keeper.due(15) == [Action("unload", "a")]
        assert keeper.resident() == frozenset()

    def test_comes_back_ahead_of_the_next_request(self) -> None:
        policy = PoissonPreload(window=4)
        keeper = keeping(policy, "a")
        for n in range(5):
            keeper.due(90.0 * n)
            keeper.arrived("a", 90.0 * n)
        assert keeper.due(360.0) == [Action("unload", "a")]
        assert keeper.due(367.4) == []
        assert keeper.due(367.5) == [Action("load", "a")]
        assert keeper.arrived("a", 370) == []

    def test_evicts_what_is_wanted_least(self) -> None:
        keeper = keeping(KeepAlive(100), "a", "b", "c", budget=2)
        keeper.arrived("a", 0)
        keeper.arrived("b", 1)
        assert keeper.arrived("c", 2) == [Action("unload", "a"), Action("load", "c")]
        assert keeper.resident() == {"b", "c"}

    def test_a_pinned_one_never_leaves(self) -> None:
        keeper = keeping(KeepAlive(100), "b", "c", budget=2)
        keeper.add("a", pinned=True)
        keeper.arrived("a", 0)
        keeper.arrived("b", 1)
        assert keeper.arrived("c", 2) == [Action("unload", "b"), Action("load", "c")]
        keeper.due(math.inf)
        assert keeper.resident() == {"a"}

    def test_what_is_pinned_teaches_the_policy_nothing(self) -> None:
        policy = LearnedHazard(patience=100)
        keeper = keeping(policy, "b")
        keeper.add("a", pinned=True)
        for at in range(100):
            keeper.arrived("a", at)
        assert policy.plan("b") == LearnedHazard(patience=100).plan("b")

    def test_what_was_pinned_later_stays_and_what_was_dropped_is_loaded_again(self) -> None:
        keeper = keeping(KeepAlive(10), "a")
        assert keeper.load("a", 0) == [Action("load", "a")]
        keeper.pin("a")
        assert keeper.due(100) == []
        keeper.drop("a")
        assert keeper.resident() == frozenset()
        assert keeper.arrived("a", 200) == [Action("load", "a")]
        assert keeper.due(210) == [Action("unload", "a")]

    @pytest.mark.parametrize(("rate", "resident"), [(0.5, "held"), (2.0, "ahead")])
    def test_fetching_ahead_displaces_only_what_is_wanted_less(self, rate: float, resident: str) -> None:
        plans = {"ahead": (Span(5, 50),), "held": FOREVER}
        keeper = keeping(Said(plans, {"ahead": rate, "held": 1.0}), "ahead", "held", budget=1)
        keeper.arrived("ahead", 0)
        keeper.arrived("held", 1)
        keeper.due(5)
        assert keeper.resident() == {resident}

    def test_what_is_larger_than_the_budget_is_served_all_the_same(self) -> None:
        keeper = keeping(KeepAlive(100), "a", budget=2)
        keeper.add("large", size=5)
        keeper.arrived("a", 0)
        assert keeper.arrived("large", 1) == [Action("unload", "a"), Action("load", "large")]


class Said:
    """A policy that says what it was told to."""

    def __init__(self, plans: dict[str, Plan], rates: dict[str, float]) -> None:
        self._plans, self._rates = plans, rates

    def arrived(self, name: str, at: float) -> None:
        pass

    def plan(self, name: str) -> Plan:
        return self._plans[name]

    def rate(self, name: str, idle: float) -> float:
        return self._rates[name]


def keeping(policy: Policy, *names: str, budget: float = math.inf) -> Keeper:
    keeper = Keeper(policy, budget)
    for name in names:
        keeper.add(name)
    return keeper
