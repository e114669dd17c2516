"""Autoscaling on two real traces, by the settings of k8s/: replicas, waiting, refused and changes an hour.

Workers and generators are queues with several places in each replica; what arrives waits in one line for the first free
place, replicas take time to start, and those that go end what they have. How long a request takes follows from its
tokens at assumed speeds (options), so that the table compares settings, not machines. Traces: ../shared/data/README.md,
the busiest day of each; each request stands for `times` requests within ten minutes of it.
"""

from __future__ import annotations

import csv
import heapq
import itertools
import math
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.common import ROOT, Figures, data_file, parser, publish
from benchmarks.residency import TRACES
from benchmarks.scaling import SYNC_SECONDS, Policy, Rule, Scaler, read
from pipelines.evaluation import Targets

TARGETS: Targets = {"closed_form_error": {"max": 0.05}, "refused": {"max": 0.01}, "changes_an_hour": {"max": 12}}
SEED = 20261121
START_SECONDS = (5.0, 15.0, 30.0, 60.0)
WINDOWS = (0.0, 60.0, 300.0)
SPREAD_SECONDS = 600.0
DAY_SECONDS = 86_400.0
WARM_SECONDS = 600.0
"""Not counted: a trace begins in the middle of its traffic, and the replicas at their least."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is scaled. counts_running: whether the metric counts what runs too. room, room_each: for what waits."""

    name: str
    slots: int
    room: int
    room_each: int
    counts_running: bool
    times: dict[str, int]


FLEETS = (
    Fleet("orchestrator", 64, 64, 0, False, {"azure": 16, "ragpulse": 100}),
    Fleet("generator", 4, 0, 32, True, {"azure": 1, "ragpulse": 20}),
)
"""As ALMANAC_WORKER_THREADS, ALMANAC_ANSWERS_WAITING, ALMANAC_GENERATOR_SLOTS and ALMANAC_GENERATOR_QUEUE are."""


@dataclass(slots=True)
class Simulation:
    """One fleet under one rule; without a rule `replicas` stay as they are."""

    slots: int
    rule: Rule | None
    start_seconds: float
    replicas: int = 1
    window: float = 0.0
    counts_running: bool = True
    room: int = 0
    room_each: int = 0
    waits: list[tuple[float, float]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    history: list[tuple[float, int, int]] = field(default_factory=list)
    replica_seconds: float = 0.0
    busy_seconds: float = 0.0
    _ready: int = 0
    _starting: list[float] = field(default_factory=list)
    _busy: int = 0
    _queue: deque[tuple[float, float]] = field(default_factory=deque)
    _ends: list[float] = field(default_factory=list)
    _area: float = 0.0
    _areas: deque[tuple[float, float]] = field(default_factory=deque)
    _now: float = 0.0

    def run(self, arrivals: Sequence[float], seconds: Sequence[float]) -> None:
        """arrivals: sorted; seconds: how long each takes once it has a place."""
        self._ready, self._now = self.replicas, arrivals[0]
        scaler = Scaler(self.rule) if self.rule else None
        tick = arrivals[0] + SYNC_SECONDS if scaler else math.inf
        for at, takes in itertools.chain(zip(arrivals, seconds, strict=True), [(math.inf, 0.0)]):
            while (due := min(self._next_event(), tick)) <= at and (self._ends or self._queue or at < math.inf):
                self._pass_to(due)
                if scaler and due == tick:
                    self._scale(scaler)
                    tick += SYNC_SECONDS
                self._settle()
            if at < math.inf:
                self._pass_to(at)
                self._arrive(takes)

    def _next_event(self) -> float:
        return min(self._ends[0] if self._ends else math.inf, self._starting[0] if self._starting else math.inf)

    def _pass_to(self, at: float) -> None:
        passed = at - self._now
        self._area += passed * self._load()
        draining = max(0, math.ceil(self._busy / self.slots) - self._ready)
        self.replica_seconds += passed * (self._ready + len(self._starting) + draining)
        self._now = at

    def _load(self) -> int:
        return len(self._queue) + (self._busy if self.counts_running else 0)

    def _arrive(self, takes: float) -> None:
        limit = self.room + self.room_each * self._ready
        if self._busy >= self._ready * self.slots and limit and len(self._queue) >= limit:
            self.refused.append(self._now)
            return
        self._queue.append((self._now, takes))
        self._settle()

    def _settle(self) -> None:
        """End what has ended, make ready what has started, and give free places to those who wait."""
        while self._ends and self._ends[0] <= self._now:
            heapq.heappop(self._ends)
            self._busy -= 1
        while self._starting and self._starting[0] <= self._now:
            self._starting.pop(0)
            self._ready += 1
        while self._queue and self._busy < self._ready * self.slots:
            since, takes = self._queue.popleft()
            self.waits.append((since, self._now - since))
            self.busy_seconds += takes
            heapq.heappush(self._ends, self._now + takes)
            self._busy += 1

    def _scale(self, scaler: Scaler) -> None:
        wanted = scaler.replicas(self._now, self._metric(), self.replicas)
        self._starting += [self._now + self.start_seconds] * max(0, wanted - self.replicas)
        for _ in range(self.replicas - wanted):
            if self._starting:
                self._starting.pop()
            else:
                self._ready -= 1
        self.replicas = wanted
        self.history.append((self._now, wanted, self._load()))

    def _metric(self) -> float:
        """The load, averaged over the window before now."""
        self._areas.append((self._now, self._area))
        while len(self._areas) > 1 and self._areas[1][0] <= self._now - self.window:
            self._areas.popleft()
        since, area = self._areas[0]
        return (self._area - area) / (self._now - since) if self.window and self._now > since else float(self._load())


def changes_an_hour(history: Sequence[tuple[float, int, int]]) -> tuple[float, float]:
    """Changes of the number of replicas, and those of them that undo the direction of the one before."""
    counts = [replicas for _, replicas, _ in history]
    steps = [after - before for before, after in itertools.pairwise(counts) if after != before]
    turns = sum(one * other < 0 for one, other in itertools.pairwise(steps))
    hours = (history[-1][0] - history[0][0]) / 3600 or 1.0
    return len(steps) / hours, turns / hours


def trace(name: str, times: int, prompt_speed: float, speed: float) -> tuple[np.ndarray, np.ndarray]:
    """When requests come and how long each takes; each request stands for `times`."""
    with data_file(TRACES[name]).open() as file:
        rows = np.array(
            [
                [float(row[key]) for key in ("timestamp_s", "input_tokens", "output_tokens")]
                for row in csv.DictReader(file)
            ]
        )
    rows = _busiest_day(rows[np.argsort(rows[:, 0], kind="stable")])
    draw = np.random.default_rng(SEED)
    rows = np.repeat(rows, times, axis=0)
    shift = draw.uniform(-SPREAD_SECONDS, SPREAD_SECONDS, len(rows)) if times > 1 else np.zeros(len(rows))
    at = rows[:, 0] + shift
    order = np.argsort(at, kind="stable")
    return at[order] - at.min(), (rows[:, 1] / prompt_speed + rows[:, 2] / speed)[order]


def _busiest_day(rows: np.ndarray) -> np.ndarray:
    """The day with the most rows, which begins with one of them."""
    ends = np.searchsorted(rows[:, 0], rows[:, 0] + DAY_SECONDS)
    first = int(np.argmax(ends - np.arange(len(rows))))
    return rows[first : ends[first]]


def played(
    fleet: Fleet, name: str, rule: Rule, start: float, window: float, load: tuple[np.ndarray, np.ndarray]
) -> Row:
    """A row of the table, and the history under `_history`."""
    run = Simulation(
        fleet.slots, rule, start, max(1, rule.least), window, fleet.counts_running, fleet.room, fleet.room_each
    )
    run.run(load[0].tolist(), load[1].tolist())
    warm = load[0][0] + WARM_SECONDS
    waits = [waited for at, waited in run.waits if at >= warm]
    refused = sum(bool(at >= warm) for at in run.refused)
    changes, turns = changes_an_hour([one for one in run.history if one[0] >= warm])
    p50, p95, p99 = np.percentile(waits, [50, 95, 99])
    return {
        "fleet": fleet.name,
        "trace": f"{name} × {fleet.times[name]}",
        "target": rule.target,
        "as_set": rule == read(fleet.name) and start == 30.0 and not window,
        "start_s": start,
        "window_s": window,
        "up_s": rule.up_window,
        "down_s": rule.down_window,
        "replicas_mean": round(run.replica_seconds / float(load[0][-1] - load[0][0]), 2),
        "replicas_most": max(replicas for _, replicas, _ in run.history),
        "busy_share": round(run.busy_seconds / (run.replica_seconds * fleet.slots), 3),
        "wait_p50_s": round(float(p50), 2),
        "wait_p95_s": round(float(p95), 2),
        "wait_p99_s": round(float(p99), 2),
        "refused": round(refused / (refused + len(waits)), 5),
        "changes_an_hour": round(changes, 2),
        "turns_an_hour": round(turns, 2),
        "_history": run.history,
    }


def closed_form_error(requests: int = 100_000) -> float:
    """Mean waiting of M/D/1 at a load of 0.8 against Pollaczek and Khinchine's: rho * s / (2 * (1 - rho))."""
    arrivals = np.cumsum(np.random.default_rng(SEED).exponential(1 / 0.8, requests)).tolist()
    run = Simulation(1, None, 0.0)
    run.run(arrivals, [1.0] * requests)
    return abs(float(np.mean([waited for _, waited in run.waits])) / (0.8 / (2 * 0.2)) - 1)


def variants(fleet: Fleet, rule: Rule) -> Iterator[tuple[Rule, float, float]]:
    """Rule, seconds to start, averaging window: as they are, then one thing changed at a time."""
    for start in START_SECONDS:
        yield rule, start, 0.0
    for window in WINDOWS[1:]:
        yield rule, 30.0, window
    for share in (0.5, 2, 4):
        yield replace(rule, target=rule.target * share), 30.0, 0.0
    yield replace(rule, down_window=300.0, down=(Policy("Pods", 1, 60.0),)), 30.0, 0.0


def measure(prompt_speed: float, speed: float, only: str) -> Figures:
    rows: list[Row] = []
    for fleet in FLEETS:
        for name, times in fleet.times.items():
            if only in ("", name):
                load = trace(name, times, prompt_speed, speed)
                rows += [played(fleet, name, *variant, load) for variant in variants(fleet, read(fleet.name))]
                print(f"{fleet.name} on {name}: {len(load[0])} requests", file=sys.stderr)
    settled = [row for row in rows if row["as_set"]]
    plot(settled)
    return {
        "closed_form_error": round(closed_form_error(), 4),
        "refused": max(row["refused"] for row in settled),
        "changes_an_hour": max(row["changes_an_hour"] for row in settled),
        "rows": [{key: value for key, value in row.items() if key != "_history"} for row in rows],
    }


def plot(rows: Sequence[Row]) -> None:
    """Load and replicas over time, of the settings as they are; nothing where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(rows), 1, figsize=(10, 3 * len(rows)), squeeze=False)
    for axis, row in zip(axes[:, 0], rows, strict=True):
        hours = [at / 3600 for at, _, _ in row["_history"]]
        axis.plot(
            hours, [load / row["target"] for _, _, load in row["_history"]], linewidth=0.5, label="metric / target"
        )
        axis.step(hours, [replicas for _, replicas, _ in row["_history"]], where="post", label="replicas")
        axis.set(title=f"{row['fleet']}, {row['trace']}, 30 s to start", xlabel="hours", ylim=(0, None))
        axis.legend(loc="upper left")
    figure.tight_layout()
    place = ROOT / "benchmarks" / "out"
    place.mkdir(exist_ok=True)
    figure.savefig(place / "autoscaling.png", dpi=100)


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--prompt-speed", type=float, default=5_000.0, help="prompt tokens a second of a place")
    options.add_argument("--speed", type=float, default=50.0, help="written tokens a second of a place")
    options.add_argument("--trace", choices=["", *TRACES], default="", help="only this one")
    chosen = options.parse_args()
    return publish(
        "autoscaling", TARGETS, chosen.json, lambda: measure(chosen.prompt_speed, chosen.speed, chosen.trace)
    )


if __name__ == "__main__":
    sys.exit(main())
