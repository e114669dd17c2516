"""Runs a graph of steps: each as soon as what it needs is there, within its deadline, with its stated fallback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from prometheus_client import Counter, Histogram

from services.common.errors import AlmanacError, DeadlineExceeded, Internal, MomentViolation, Overloaded, Unavailable
from services.common.metrics import REGISTRY, SECONDS
from services.common.rpc.deadlines import deadline, remaining
from services.common.telemetry import spanning
from services.orchestrator.graph.patience import NodeFailed, Patience

STEP_SECONDS = Histogram("almanac_step_seconds", "Seconds a step took.", ("step",), buckets=SECONDS, registry=REGISTRY)
STEP_RETRIES = Counter("almanac_step_retries", "Tries of a step after its first.", ("step",), registry=REGISTRY)
STEP_FALLBACKS = Counter("almanac_step_fallbacks", "Steps whose fallback had to do.", ("step",), registry=REGISTRY)

Result = TypeVar("Result")
Results = Mapping[str, Any]
"""What the steps before gave, by step name; a step that was passed over gave None."""
_GRACE_SECONDS = 0.2
"""How much later than its deadline a call may say so, and by that name the node it was made to."""


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
    """One step. Without a fallback its failure is the whole graph's.

    `seconds` bound all its tries together, each time anew where a node that was away is asked once more.
    """

    name: str
    run: Callable[[Results], Awaitable[Any]]
    seconds: float
    needs: tuple[str, ...] = ()
    node: str = ""
    retries: int = 0
    fallback: Callable[[Results], Awaitable[Any]] | None = None
    when: Callable[[Results], bool] = always


@dataclass(slots=True)
class Taken:
    """How a step went: milliseconds since the graph began, tries, and whether its fallback had to do."""

    step: str
    node: str
    needs: tuple[str, ...]
    start_ms: float
    ms: float = 0.0
    tries: int = 0
    fell_back: bool = False


@dataclass(slots=True)
class Trace:
    """What became of the steps, in the order they began, and which nodes failed on the way."""

    steps: list[Taken] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    @property
    def timings_ms(self) -> dict[str, float]:
        return {taken.step: taken.ms for taken in self.steps}

    def lost(self, node: str) -> None:
        if node not in self.degraded:
            self.degraded.append(node)

    @contextmanager
    def taking(self, step: Step) -> Iterator[Taken]:
        """Time the step, in the record, in the figures and as a span."""
        taken = Taken(step.name, step.node, step.needs, self._now_ms())
        self.steps.append(taken)
        with spanning(step.name, node=step.node) as span:
            try:
                yield taken
            finally:
                taken.ms = round(self._now_ms() - taken.start_ms, 2)
                span.set_attributes({"almanac.tries": taken.tries, "almanac.fell_back": taken.fell_back})
                STEP_SECONDS.labels(step.name).observe(taken.ms / 1000)
                STEP_RETRIES.labels(step.name).inc(max(0, taken.tries - 1))
                STEP_FALLBACKS.labels(step.name).inc(taken.fell_back)

    def _now_ms(self) -> float:
        return round((time.perf_counter() - self.began) * 1000, 2)


Observe = Callable[[str, float], Awaitable[None]]
"""Told of each finished step and its milliseconds."""


async def execute(
    steps: Sequence[Step], trace: Trace, observe: Observe, patience: Patience | None = None
) -> dict[str, Any]:
    """Run the graph; its results by step name. A step that fails without fallback cancels the rest and raises."""
    patience = patience or Patience()
    results: dict[str, Any] = {}
    done = {step.name: asyncio.Event() for step in steps}

    async def perform(step: Step) -> None:
        for need in step.needs:
            await done[need].wait()
        if step.when(results):
            with trace.taking(step) as taken:
                results[step.name] = await _try(step, results, trace, taken, patience)
            await observe(step.name, taken.ms)
        else:
            results[step.name] = None
        done[step.name].set()

    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(perform(step), name=step.name)
    except BaseExceptionGroup as failures:
        raise first_error(failures) from None
    return results


async def _try(step: Step, results: Results, trace: Trace, taken: Taken, patience: Patience) -> Any:
    try:
        return await patience.call(step.node, partial(_within, step, results, taken))
    except NodeFailed as failure:
        if step.fallback is None:
            raise failure.error from None
        trace.lost(failure.node)
    taken.fell_back = True
    try:
        with deadline(step.seconds):
            return await step.fallback(results)
    except NodeFailed as failure:
        raise failure.error from None


async def _within(step: Step, results: Results, taken: Taken) -> Any:
    """The tries of a step. The node's own deadline comes first; the timeout is for one that does not keep it."""
    try:
        with deadline(step.seconds):
            async with asyncio.timeout(step.seconds + _GRACE_SECONDS):
                return await _tries(step, results, taken)
    except TimeoutError:
        late = DeadlineExceeded(f"{step.name} took longer than {step.seconds:g} s")
        raise NodeFailed(step.node, late) from None


async def _tries(step: Step, results: Results, taken: Taken) -> Any:
    while True:
        taken.tries += 1
        try:
            return await step.run(results)
        except NodeFailed as failure:
            if taken.tries > step.retries or isinstance(failure.error, DeadlineExceeded):
                raise
            with calling(failure.node):
                remaining(step.seconds)


async def together(works: Iterable[Callable[[], Awaitable[Result]]], at_once: int) -> list[Result]:
    """The results in order, so many worked out at a time. The first error cancels the rest and is raised."""
    turns = asyncio.Semaphore(at_once)

    async def take(work: Callable[[], Awaitable[Result]]) -> Result:
        async with turns:
            return await work()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(take(work)) for work in works]
    except BaseExceptionGroup as failures:
        raise first_error(failures) from None
    return [task.result() for task in tasks]


def first_error(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a group: ours before any other."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [failures]
    while pending:
        error = pending.pop(0)
        pending += error.exceptions if isinstance(error, BaseExceptionGroup) else []
        leaves += [] if isinstance(error, BaseExceptionGroup) else [error]
    return next((error for error in leaves if isinstance(error, AlmanacError)), leaves[0])
