"""Policies: for how long after a request a model stays, and when it is fetched ahead of the next one.

A policy is told every arrival and says, for each model, at which idle ages it should be resident. It is pure: no clock,
no engine. Times are seconds; a rate is arrivals a second.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict, deque
from typing import NamedTuple, Protocol


class Span(NamedTuple):
    """Idle ages, half-open."""

    start: float
    end: float


Plan = tuple[Span, ...]
"""Apart from each other, in order; between them and after them the model is not resident."""

DEFAULT_PATIENCE = 200.0
"""Seconds for which the default waits for one request: three quarters of the time resident, 3 to 4 % cold, on a
university's question answering (`python -m benchmarks.residency`)."""

FOREVER: Plan = (Span(0.0, math.inf),)
"""What is held where too little is known to let go of it."""


class Policy(Protocol):
    def arrived(self, name: str, at: float) -> None:
        """A request for the model came in. The times of one model never decrease."""
        ...

    def plan(self, name: str) -> Plan:
        """When the model should be resident, counted from its last arrival, if no other comes."""
        ...

    def rate(self, name: str, idle: float) -> float:
        """How soon the model will be wanted after so long without a request; the least is evicted first."""
        ...


class _Gaps:
    """The last gaps between the arrivals of each model."""

    def __init__(self, window: int) -> None:
        self._gaps: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=window))
        self._last: dict[str, float] = {}

    def arrived(self, name: str, at: float) -> float | None:
        """The gap that this arrival ended; None for a first one."""
        last = self._last.get(name)
        self._last[name] = at
        if last is None:
            return None
        self._gaps[name].append(at - last)
        return at - last

    def rate(self, name: str) -> float | None:
        """Arrivals a second, (k - 1) / sum of the last k gaps, which is unbiased; None before the second gap.

        k / sum is too high by k / (k - 1): the sum of k exponential gaps is gamma distributed.
        """
        gaps = self._gaps[name]
        return (len(gaps) - 1) / max(sum(gaps), 1e-9) if len(gaps) > 1 else None


class KeepAlive:
    """Stay for a fixed time after each request."""

    def __init__(self, seconds: float) -> None:
        self._plan = (Span(0.0, seconds),)

    def arrived(self, name: str, at: float) -> None:
        pass

    def plan(self, name: str) -> Plan:
        return self._plan

    def rate(self, name: str, idle: float) -> float:
        """Least recently used first."""
        return 1 / (idle + 1e-9)


FOREVER_KEPT = KeepAlive(math.inf)
"""Stay until told to leave, or displaced."""


class PoissonPreload:
    """Leave at once, come back when an arrival has become likely enough, leave when it should long have happened.

    P(an arrival within t) = 1 - exp(-rate t): load where it passes `load`, unload where it passes `unload` (Tyche, IEEE
    TPDS 37(2), 2026, with 6 and 94 %). With `load` 0 it holds until an arrival has become unlikely.
    """

    def __init__(self, window: int, load: float = 0.06, unload: float = 0.94) -> None:
        self._gaps = _Gaps(window)
        self._load, self._unload = -math.log1p(-load), -math.log1p(-unload)

    def arrived(self, name: str, at: float) -> None:
        self._gaps.arrived(name, at)

    def plan(self, name: str) -> Plan:
        rate = self._gaps.rate(name)
        return FOREVER if rate is None else (Span(self._load / rate, self._unload / rate),)

    def rate(self, name: str, idle: float) -> float:
        return self._gaps.rate(name) or 0.0


class LearnedHazard:
    """Stay while the next request is expected soon enough, as gaps of models in the same state have shown so far.

    Real gaps are burstier than Poisson's: the longer the silence, the longer it will last; how much longer depends on
    how busy the model has been. So the hazard (arrivals a second at an idle age) is counted as it happens, by age and
    by the mean of the model's last gaps, over all models together; where little has been seen it is drawn towards the
    hazard over all states. A model is worth its memory while it is wanted once in `patience` seconds or sooner: it
    stays until the age at which what is saved, less what the memory costs, is greatest.
    """

    _LEAST = 60.0
    """Seconds that a model stays at any rate: loading it may have taken as long."""
    _WINDOW = 20
    _STATE = 0.7
    """A state's width in the logarithm of the mean gap: a factor of two."""
    _PRIOR = 5.0
    """As many arrivals as the hazard over all states counts for."""
    _EDGES = (0.0, *(0.5 * 1.3**n for n in range(44)), math.inf)
    """Idle ages that are told apart, half a second to half a day."""

    def __init__(self, patience: float = DEFAULT_PATIENCE) -> None:
        self._price = 1 / patience
        self._gaps = _Gaps(self._WINDOW)
        self._states: dict[int | None, _Counts] = {}
        self._all = _Counts(len(self._EDGES) - 1)

    def arrived(self, name: str, at: float) -> None:
        counts = self._counts(name)
        gap = self._gaps.arrived(name, at)
        if gap is not None:
            for seen in (counts, self._all):
                seen.add(gap, self._EDGES)

    def plan(self, name: str) -> Plan:
        little = self._all.total < self._WINDOW
        worth = 1 / self._price if little else self._worth(self._counts(name))
        return (Span(0.0, max(worth, self._LEAST)),)

    def _worth(self, counts: _Counts) -> float:
        """Until which idle age staying is worth most: what arrivals in it save, less what the memory costs."""
        best = gain = until = 0.0
        still = 1.0
        for age, (start, end) in enumerate(zip(self._EDGES[:-1], self._EDGES[1:-1], strict=False)):
            hazard, seconds = self._hazard(counts, age), end - start
            comes = 1 - math.exp(-hazard * seconds)
            gain += still * comes * (1 - self._price / hazard)
            still *= 1 - comes
            if gain > best:
                best, until = gain, end
        return until

    def rate(self, name: str, idle: float) -> float:
        return self._hazard(self._counts(name), bisect_right(self._EDGES, idle) - 1)

    def _counts(self, name: str) -> _Counts:
        rate = self._gaps.rate(name)
        state = None if rate is None else math.floor(math.log(rate) / self._STATE)
        return self._states.setdefault(state, _Counts(len(self._EDGES) - 1))

    def _hazard(self, counts: _Counts, age: int) -> float:
        overall = (self._all.arrivals[age] + 0.5) / (self._all.seconds[age] + 60.0)
        return (counts.arrivals[age] + self._PRIOR) / (counts.seconds[age] + self._PRIOR / overall)


class _Counts:
    """How long models have been idle at each age, and how many requests came then."""

    def __init__(self, ages: int) -> None:
        self.seconds = [0.0] * ages
        self.arrivals = [0] * ages
        self.total = 0

    def add(self, gap: float, edges: tuple[float, ...]) -> None:
        last = bisect_right(edges, gap) - 1
        for age in range(last):
            self.seconds[age] += edges[age + 1] - edges[age]
        self.seconds[last] += gap - edges[last]
        self.arrivals[last] += 1
        self.total += 1
