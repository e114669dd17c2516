"""A node's circuit: when it opens, whom it lets through, and when it closes."""

from __future__ import annotations

import asyncio

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


async def test_calls_beside_the_one_that_tries_the_node_share_its_outcome(circuit: Circuit, clock: Clock) -> None:
    for outcome, let_through in ((circuit.answered, [True, True]), (circuit.failed, [False, False])):
        opened(circuit, clock)
        clock.now += OPEN_SECONDS
        await circuit.turn(10.0)
        beside = [asyncio.create_task(circuit.turn(10.0)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert not any(one.done() for one in beside)
        outcome()
        ended = await asyncio.gather(*beside, return_exceptions=True)
        assert [one is None for one in ended] == let_through


async def test_a_call_waits_for_another_s_try_no_longer_than_it_may_take(circuit: Circuit, clock: Clock) -> None:
    opened(circuit, clock)
    clock.now += OPEN_SECONDS
    await circuit.turn(10.0)
    with pytest.raises(Unavailable):
        await circuit.turn(0.01)


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


async def fails(circuit: Circuit, error: BaseException, seconds: float = 10.0, took: float = 0.0) -> bool:
    """Whether a call that ends so is one more failure."""
    before = circuit.failures
    with pytest.raises(type(error)):
        async with guarding(circuit, seconds):
            await asyncio.sleep(took)
            raise error
    return circuit.failures > before


def broken(code: grpc.StatusCode, *told: tuple[str, str]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*told))


async def test_what_breaks_or_runs_out_of_its_time_is_a_failure(circuit: Circuit) -> None:
    assert await fails(circuit, broken(grpc.StatusCode.UNAVAILABLE))
    assert await fails(circuit, broken(grpc.StatusCode.DEADLINE_EXCEEDED))
    assert not await fails(circuit, broken(grpc.StatusCode.DEADLINE_EXCEEDED), seconds=0.1), "it hardly had any time"


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_what_the_node_itself_tells_is_an_answer(circuit: Circuit, code: grpc.StatusCode) -> None:
    circuit.failed()
    assert not await fails(circuit, broken(code, (TYPE_KEY, "behind-watermark"))) and circuit.failures == 0
    circuit.failed()
    assert not await fails(circuit, broken(grpc.StatusCode.NOT_FOUND)) and circuit.failures == 0


async def test_a_caller_who_leaves_tells_nothing_unless_the_time_was_up(circuit: Circuit) -> None:
    circuit.failed()
    assert not await fails(circuit, asyncio.CancelledError()) and circuit.failures == 1
    assert not await fails(circuit, GeneratorExit()) and circuit.failures == 1
    assert await fails(circuit, asyncio.CancelledError(), seconds=0.5, took=0.5)
