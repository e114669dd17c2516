"""A node's circuit: when it opens, whom it lets through, and when it closes."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest

from services.common.errors import Unavailable
from services.common.metrics import REGISTRY
from services.common.rpc.circuit import LASTING_SECONDS, OPEN_AFTER, OPEN_SECONDS, Circuit, State, guarding
from services.common.rpc.status import TYPE_KEY


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit("tried", clock)


def opened(circuit: Circuit, clock: Clock) -> None:
    for _ in range(OPEN_AFTER):
        circuit.failed()
        clock.now += LASTING_SECONDS
    assert circuit.state is State.OPEN


def refused(circuit: Circuit) -> bool:
    try:
        circuit.admit()
    except Unavailable:
        return True
    return False


def figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"almanac_circuit_{name}", {"node": "tried", **labels}) or 0.0


def test_it_opens_after_so_many_failures_in_a_row_and_not_before(circuit: Circuit, clock: Clock) -> None:
    for _ in range(3):
        for _ in range(OPEN_AFTER - 1):
            circuit.failed()
            clock.now += 1
        circuit.answered()
    assert circuit.state is State.CLOSED and not refused(circuit)
    opened(circuit, clock)
    clock.now -= LASTING_SECONDS
    assert refused(circuit)


def test_any_number_of_calls_that_break_at_once_are_one_failure(circuit: Circuit, clock: Clock) -> None:
    for _ in range(50):
        circuit.failed()
    assert circuit.state is State.CLOSED
    clock.now += LASTING_SECONDS
    circuit.failed()
    assert circuit.state is State.OPEN


def test_one_call_a_second_tries_a_node_whose_circuit_is_open(circuit: Circuit, clock: Clock) -> None:
    opened(circuit, clock)
    clock.now += OPEN_SECONDS
    assert [refused(circuit) for _ in range(4)] == [False, True, True, True]
    assert circuit.state is State.HALF_OPEN
    clock.now += OPEN_SECONDS
    assert not refused(circuit), "one that is slow to fail keeps no other from trying"
    circuit.failed()
    assert circuit.state is State.OPEN and refused(circuit)


def test_an_answer_closes_it(circuit: Circuit, clock: Clock) -> None:
    opened(circuit, clock)
    clock.now += OPEN_SECONDS
    circuit.admit()
    circuit.answered()
    assert not any(refused(circuit) for _ in range(10))


def test_what_began_before_it_opened_does_not_keep_it_open(circuit: Circuit, clock: Clock) -> None:
    opened(circuit, clock)
    circuit.failed()
    clock.now += OPEN_SECONDS - 0.1
    circuit.failed()
    clock.now += 0.1
    assert not refused(circuit)


def test_figures_tell_its_state_its_changes_and_what_it_refused(circuit: Circuit, clock: Clock) -> None:
    names = ("open", "half_open", "closed")
    before = [figure("changes_total", state=state) for state in names], figure("refused_total")
    opened(circuit, clock)
    clock.now -= LASTING_SECONDS
    assert refused(circuit) and figure("state") == 2
    clock.now += OPEN_SECONDS
    circuit.admit()
    assert figure("state") == 1
    circuit.answered()
    assert figure("state") == 0 and figure("refused_total") == before[1] + 1
    assert [figure("changes_total", state=state) for state in names] == [count + 1 for count in before[0]]


def fails(circuit: Circuit, error: BaseException, seconds: float = 10.0, took: float = 0.0) -> bool:
    """Whether a call that ends so is one more failure."""
    before = circuit.failures
    with pytest.raises(type(error)), guarding(circuit, seconds):
        time.sleep(took)
        raise error
    return circuit.failures > before


def broken(code: grpc.StatusCode, *told: tuple[str, str]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*told))


def test_what_breaks_or_runs_out_of_its_time_is_a_failure(circuit: Circuit) -> None:
    assert fails(circuit, broken(grpc.StatusCode.UNAVAILABLE))
    assert fails(circuit, broken(grpc.StatusCode.DEADLINE_EXCEEDED))
    assert not fails(circuit, broken(grpc.StatusCode.DEADLINE_EXCEEDED), seconds=0.1), "it hardly had any time"


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_what_the_node_itself_tells_is_an_answer(circuit: Circuit, code: grpc.StatusCode) -> None:
    circuit.failed()
    assert not fails(circuit, broken(code, (TYPE_KEY, "behind-watermark"))) and circuit.failures == 0
    circuit.failed()
    assert not fails(circuit, broken(grpc.StatusCode.NOT_FOUND)) and circuit.failures == 0


def test_a_caller_who_leaves_tells_nothing_unless_the_time_was_up(circuit: Circuit) -> None:
    circuit.failed()
    assert not fails(circuit, asyncio.CancelledError()) and circuit.failures == 1
    assert not fails(circuit, GeneratorExit()) and circuit.failures == 1
    assert fails(circuit, asyncio.CancelledError(), seconds=0.5, took=0.5)
