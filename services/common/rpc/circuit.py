"""A circuit breaker for each node, of this process: a node that keeps failing is left alone but for a call a second.

Closed, open and half-open as M. Nygard names them (Release It!, 2007). A failure is a call that broke or ran out of its
time; an error that the node itself told of is an answer. Time is bounded already by the deadline of each call: the
circuit saves the others from waiting for theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import IntEnum

import grpc
from prometheus_client import Counter, Gauge

from services.common.errors import Unavailable
from services.common.metrics import REGISTRY
from services.common.rpc.status import told_by_node

OPEN_AFTER = 5
"""So many failures with no answer between them open the circuit,"""
LASTING_SECONDS = 0.5
"""if they lie this far apart: what breaks in one instant, such as one replica of several, is one failure."""
OPEN_SECONDS = 1.0
"""How often one call tries a node whose circuit is open."""
_TELLING_SECONDS = 0.5
"""Running out of less time than this says nothing of the node."""
_UP = 0.95
"""Share of its time after which a call that is left has run out of it."""
UNAVAILABLE, DEADLINE_EXCEEDED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED


class State(IntEnum):
    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


STATE = Gauge("almanac_circuit_state", "A node's circuit: 0 closed, 1 half-open, 2 open.", ("node",), registry=REGISTRY)
CHANGES = Counter(
    "almanac_circuit_changes", "Changes of a node's circuit, by what it became.", ("node", "state"), registry=REGISTRY
)
REFUSED = Counter(
    "almanac_circuit_refused", "Calls not made because the node's circuit was open.", ("node",), registry=REGISTRY
)


class Circuit:
    """The circuit of one node, by the name that figures give it."""

    def __init__(self, node: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self.failures, self._since, self._next_try = 0, 0.0, 0.0
        self.state = State.CLOSED
        self._tried = asyncio.Event()
        STATE.labels(node).set(State.CLOSED)

    async def turn(self, seconds: float) -> None:
        """As `admit`, but while a call tries the node, wait for what becomes of it: of two calls that belong together
        the second one would fail otherwise as the node comes back."""
        if self.state is State.HALF_OPEN:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, max(0.0, self._next_try - self._clock()))):
                    await self._tried.wait()
        self.admit()

    def admit(self) -> None:
        """Let a call through, or raise Unavailable. What is let through while open tries the node."""
        if self.state is State.CLOSED:
            return
        if self._clock() < self._next_try:
            REFUSED.labels(self._node).inc()
            detail = f"the {self._node} has failed {self.failures} times in a row; it is tried once a second"
            raise Unavailable(detail)
        self._next_try = self._clock() + OPEN_SECONDS
        self._become(State.HALF_OPEN)

    def answered(self) -> None:
        self.failures = 0
        self._become(State.CLOSED)

    def failed(self) -> None:
        now = self._clock()
        self._since = self._since if self.failures else now
        self.failures += 1
        lasting = self.failures >= OPEN_AFTER and now - self._since >= LASTING_SECONDS
        if self.state is State.HALF_OPEN or (self.state is State.CLOSED and lasting):
            self._next_try = now + OPEN_SECONDS
            self._become(State.OPEN)

    def _become(self, state: State) -> None:
        if state is self.state:
            return
        self.state = state
        if state is State.HALF_OPEN:
            self._tried.clear()
        else:
            self._tried.set()
        STATE.labels(self._node).set(state)
        CHANGES.labels(self._node, state.name.lower()).inc()


@asynccontextmanager
async def guarding(circuit: Circuit, seconds: float) -> AsyncIterator[float]:
    """Make a call that may take `seconds`, unless the circuit is open, and tell the circuit how it went.

    Gives the seconds that are left once its turn has come. A call that its caller leaves tells nothing, unless its time
    was as good as up by then.
    """
    began = time.monotonic()
    await circuit.turn(seconds)
    try:
        yield max(0.0, seconds - (time.monotonic() - began))
    except grpc.aio.AioRpcError as error:
        if told_by_node(error) or error.code() not in (UNAVAILABLE, DEADLINE_EXCEEDED):
            circuit.answered()
        elif error.code() is UNAVAILABLE or seconds >= _TELLING_SECONDS:
            circuit.failed()
        raise
    except BaseException:
        if seconds >= _TELLING_SECONDS and time.monotonic() - began >= _UP * seconds:
            circuit.failed()
        raise
    circuit.answered()
