"""The autoscaler that is simulated: Kubernetes' rule by hand, and queues by their closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.autoscaling import FLEETS, Simulation, changes_an_hour
from benchmarks.scaling import Policy, Rule, Scaler, read
from services.gateway.settings import GatewaySettings
from services.generator.settings import GeneratorSettings
from services.orchestrator.settings import WorkerSettings

RULE = Rule("x", 1, 100, 4.0, 15, 300, 0, 0, (Policy("Percent", 10_000, 15),), (Policy("Pods", 100, 15),))


def poisson(rate: float, count: int) -> list[float]:
    return list(np.cumsum(np.random.default_rng(7).exponential(1 / rate, count)).tolist())


def mean_wait(simulation: Simulation) -> float:
    return sum(waited for _, waited in simulation.waits) / len(simulation.waits)


def test_the_wait_before_one_place_is_that_of_pollaczek_and_khinchine() -> None:
    run = Simulation(1, None, 0.0)
    run.run(poisson(0.7, 15_000), [1.0] * 15_000)
    assert mean_wait(run) == pytest.approx(0.7 / (2 * 0.3), rel=0.08)


def test_the_wait_before_several_places_is_erlangs() -> None:
    rate, places, count = 3.0, 4, 15_000
    run = Simulation(2, None, 0.0, replicas=2)
    run.run(poisson(rate, count), np.random.default_rng(8).exponential(1.0, count).tolist())
    whole = rate**places / math.factorial(places) * places / (places - rate)
    waits = whole / (sum(rate**k / math.factorial(k) for k in range(places)) + whole)
    assert mean_wait(run) == pytest.approx(waits / (places - rate), rel=0.12)


def test_as_many_wait_as_arrive_in_the_time_that_one_waits() -> None:
    """Little's law, over a run that begins and ends empty."""
    run = Simulation(1, None, 0.0, counts_running=False)
    arrivals = poisson(0.8, 5_000)
    run.run(arrivals, [1.0] * 5_000)
    assert run._area == pytest.approx(sum(waited for _, waited in run.waits))


def advised(metric: float, current: int, rule: Rule = RULE) -> int:
    return Scaler(rule).replicas(0.0, metric, current)


def test_replicas_are_the_metric_by_its_target_beyond_the_tolerance() -> None:
    assert [advised(metric, 10) for metric in (40, 43, 37, 45, 35, 200, 0)] == [10, 10, 10, 12, 9, 50, 1]
    assert advised(4_000, 10) == 100


def test_policies_limit_a_step_by_what_its_period_has_seen() -> None:
    scaler = Scaler(replace(RULE, up=(Policy("Pods", 2, 60), Policy("Percent", 100, 60))))
    replicas, seen = 1, []
    for at in range(0, 120, 15):
        replicas = scaler.replicas(float(at), 400.0, replicas)
        seen.append(replicas)
    assert seen == [3, 3, 3, 3, 6, 6, 6, 6]


def test_the_window_down_keeps_the_highest_and_the_window_up_takes_the_lowest() -> None:
    down = Scaler(replace(RULE, down_window=60.0))
    assert [down.replicas(at, metric, 10) for at, metric in ((0.0, 40), (30.0, 8), (45.0, 8))] == [10, 10, 10]
    assert down.replicas(75.0, 8, 10) == 2
    up = Scaler(replace(RULE, up_window=60.0))
    assert [up.replicas(at, metric, 10) for at, metric in ((0.0, 40), (30.0, 80), (45.0, 120))] == [10, 10, 10]
    assert up.replicas(75.0, 120, 10) == 20


def test_from_zero_it_takes_something_that_waits_and_back_to_it_the_cooldown() -> None:
    scaler = Scaler(replace(RULE, least=0))
    assert scaler.replicas(0.0, 0.0, 0) == 0
    assert scaler.replicas(15.0, 3.0, 0) == 1
    assert [scaler.replicas(15.0 + at, 0.0, 1) for at in (100.0, 299.0, 300.0)] == [1, 1, 0]


def test_replicas_take_their_time_to_start_and_end_what_they_have() -> None:
    run = Simulation(1, replace(RULE, target=1.0), start_seconds=20.0)
    run.run([0.0] * 4, [100.0] * 4)
    starts = sorted(waited for _, waited in run.waits)
    assert starts == [0.0, 35.0, 35.0, 35.0]
    assert run.history[0][1] == 4 and run.refused == []


def test_what_finds_no_room_is_refused() -> None:
    run = Simulation(1, None, 0.0, room=2)
    run.run([0.0, 0.1, 0.2, 0.3], [10.0] * 4)
    assert run.refused == [0.3] and len(run.waits) == 3


def test_changes_are_told_by_the_hour_and_turns_apart() -> None:
    history = [(900.0 * step, count, 0) for step, count in enumerate((2, 4, 4, 3, 5))]
    assert changes_an_hour(history) == (3.0, 2.0)


@pytest.mark.parametrize("name", ["orchestrator", "generator", "ingestion", "encoder"])
def test_the_rules_are_those_of_the_manifests(name: str) -> None:
    rule = read(name)
    assert 0 <= rule.least < rule.most and rule.target > 0 and rule.up and rule.down
    with pytest.raises(KeyError, match="nobody"):
        read("nobody")


def test_the_queue_may_grow_long_enough_to_ask_for_every_worker() -> None:
    rule = read("orchestrator")
    assert rule.most * rule.target <= GatewaySettings().answers_waiting


def test_as_many_places_are_simulated_as_there_are() -> None:
    worker, gateway, generator = WorkerSettings(), GatewaySettings(), GeneratorSettings()
    workers, generators = FLEETS
    assert (workers.slots, workers.room) == (worker.worker_threads, gateway.answers_waiting)
    assert (generators.slots, generators.room_each) == (generator.generator_slots, generator.generator_queue)
