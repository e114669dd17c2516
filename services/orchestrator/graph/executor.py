"""Runs a graph of steps: each as soon as what it needs is there, within its deadline, with its stated fallback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from services.common.errors import AlmanacError, DeadlineExceeded, Internal, MomentViolation, Overloaded, Unavailable
from services.common.rpc.deadlines import deadline

Results = Mapping[str, Any]
"""What the steps before gave, by step name; a step that was passed over gave None."""


class NodeFailed(Exception):
    """A node did not do its part; the step falls back if it can."""

    def __init__(self, node: str, error: AlmanacError) -> None:
        super().__init__(f"{node}: {error.detail}")
        self.node, self.error = node, error


@contextmanager
def calling(node: str) -> Iterator[None]:
    """Names the node whose failure may be survived. A broken moment or a bad request never is."""
    try:
        yield
    except MomentViolation:
        raise
    except (Unavailable, Overloaded, DeadlineExceeded, Internal) as error:
        raise NodeFailed(node, error) from None


def always(_: Results) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Step:
    """One step. Without a fallback its failure is the whole graph's. `seconds` bound all its tries together."""

    name: str
    run: Callable[[Results], Awaitable[Any]]
    seconds: float
    needs: tuple[str, ...] = ()
    node: str = ""
    retries: int = 0
    fallback: Callable[[Results], Awaitable[Any]] | None = None
    when: Callable[[Results], bool] = always


@dataclass(slots=True)
class Trace:
    """What became of the steps: how long each took, and which nodes failed on the way."""

    timings_ms: dict[str, float] = field(default_factory=dict)
    degraded: list[str] = field(default_factory=list)

    def lost(self, node: str) -> None:
        if node not in self.degraded:
            self.degraded.append(node)


Observe = Callable[[str, float], Awaitable[None]]
"""Told of each finished step and its milliseconds."""


async def execute(steps: Sequence[Step], trace: Trace, observe: Observe) -> dict[str, Any]:
    """Run the graph; its results by step name. A step that fails without fallback cancels the rest and raises."""
    results: dict[str, Any] = {}
    done = {step.name: asyncio.Event() for step in steps}

    async def perform(step: Step) -> None:
        for need in step.needs:
            await done[need].wait()
        began = time.perf_counter()
        results[step.name] = await _try(step, results, trace) if step.when(results) else None
        if step.when(results):
            spent = (time.perf_counter() - began) * 1000
            trace.timings_ms[step.name] = round(spent, 2)
            await observe(step.name, spent)
        done[step.name].set()

    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(perform(step), name=step.name)
    except BaseExceptionGroup as failures:
        raise _first(failures) from None
    return results


async def _try(step: Step, results: Results, trace: Trace) -> Any:
    try:
        with deadline(step.seconds):
            return await _within(step, results)
    except NodeFailed as failure:
        if step.fallback is None:
            raise failure.error from None
        trace.lost(failure.node)
    try:
        return await step.fallback(results)
    except NodeFailed as failure:
        raise failure.error from None


async def _within(step: Step, results: Results) -> Any:
    """The tries of a step. The node's own deadline comes first; the timeout is for one that does not keep it."""
    try:
        async with asyncio.timeout(step.seconds):
            return await _tries(step, results)
    except TimeoutError:
        late = DeadlineExceeded(f"{step.name} took longer than {step.seconds:g} s")
        raise NodeFailed(step.node, late) from None


async def _tries(step: Step, results: Results) -> Any:
    for _ in range(step.retries):
        try:
            return await step.run(results)
        except NodeFailed as failure:
            if isinstance(failure.error, DeadlineExceeded):
                raise
    return await step.run(results)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the graph: ours before any other."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [failures]
    while pending:
        error = pending.pop(0)
        pending += error.exceptions if isinstance(error, BaseExceptionGroup) else []
        leaves += [] if isinstance(error, BaseExceptionGroup) else [error]
    return next((error for error in leaves if isinstance(error, AlmanacError)), leaves[0])
