"""Waiting against residency: the policies of services/generator/residency over two real traces and Poisson arrivals.

Each trace as one model and split over 100 adapters (Zipf, seeded), with load times of 0 to 60 s. Residency is the mean
share of the time in which a model takes memory, loading included; cold is the share of requests that wait for a load.
Source of the traces: ../shared/data/README.md. Source of the closed forms: Poisson arrivals at a rate r, loaded where
P(arrival) passes p and unloaded where it passes q, instantly: cold = p + 1 - q, residency = q - p, whatever r is.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common import ROOT, Figures, data_file, parser, publish
from pipelines.evaluation import Targets
from services.generator.residency.keeper import Action, Keeper
from services.generator.residency.policies import (
    DEFAULT_PATIENCE,
    KeepAlive,
    LearnedHazard,
    Plan,
    PoissonPreload,
    Policy,
    Span,
)

TARGETS: Targets = {
    "closed_form_error": {"max": 0.01},
    "cold_at_75": {"max": 0.045},
    "default_over_keep_alive": {"max": 1.0},
}
SEED = 20261121
ADAPTERS = 100
LOAD_SECONDS = (0.0, 1.0, 5.0, 15.0, 60.0)
TRACES = {"ragpulse": "traces/ragpulse.csv", "azure": "traces/azure_conv.csv"}
PATIENCE = {"ragpulse": (60, 100, 150, 200, 250, 300, 400, 600, 1200), "azure": (0.3, 1, 3, 10, 30, 100, 200, 300)}
KEEP = {
    "ragpulse": (15, 30, 60, 120, 200, 250, 300, 350, 400, 500, 600, 900, 1200, 2400, 4800),
    "azure": (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 15, 30, 60, 90, 120, 180, 240, 300, 400, 600),
}
WINDOWS = (3, 5, 10, 20, 50)
Arrivals = Sequence[tuple[float, str]]
Row = dict[str, Any]


@dataclass(slots=True)
class _Held:
    """One stay of a model in memory."""

    since: float
    ready: float
    until: float = math.inf


class _Engine:
    """Stands for what loads models, and counts how long they take memory."""

    def __init__(self, load_seconds: float) -> None:
        self._load_seconds = load_seconds
        self._held: dict[str, _Held] = {}
        self._ended = 0.0

    def do(self, actions: Sequence[Action], at: float) -> None:
        for kind, name in actions:
            if kind == "unload":
                # What loads for a request in hand does not leave before it has answered.
                self._held[name].until = max(at, self._held[name].ready)
            elif name in self._held and self._held[name].until > at:
                self._held[name].until = math.inf
            else:
                self._end(name)
                self._held[name] = _Held(at, at + self._load_seconds)

    def answers(self, name: str, at: float) -> bool:
        held = self._held.get(name)
        return held is not None and held.ready <= at < held.until

    def wait(self, name: str, at: float) -> float:
        return max(0.0, self._held[name].ready - at)

    def resident(self, now: float) -> float:
        """Seconds of memory taken by all models so far."""
        return self._ended + sum(min(held.until, now) - held.since for held in self._held.values())

    def _end(self, name: str) -> None:
        if held := self._held.pop(name, None):
            self._ended += held.until - held.since


def simulate(arrivals: Arrivals, policy: Policy, load_seconds: float, budget: float = math.inf) -> Row:
    """Play the arrivals, sorted by time. A request that meets a model which is loading waits for the rest of it."""
    keeper, engine = Keeper(policy, budget), _Engine(load_seconds)
    names = {name for _, name in arrivals}
    for name in names:
        keeper.add(name)
    cold, waited = 0, 0.0
    for at, name in arrivals:
        while (due := keeper.next_due()) is not None and due <= at:
            engine.do(keeper.due(due), due)
        cold += not engine.answers(name, at)
        engine.do(keeper.arrived(name, at), at)
        waited += engine.wait(name, at)
    first, last = arrivals[0][0], arrivals[-1][0]
    return {
        "cold": round(cold / len(arrivals), 4),
        "wait_s": round(waited / len(arrivals), 6),
        "residency": round(engine.resident(last) / ((last - first) * len(names)), 6),
    }


class _KnownRate(PoissonPreload):
    """The closed form's own policy: it is told the rate."""

    def __init__(self, rate: float) -> None:
        super().__init__(window=2)
        self._span = Span(self._load / rate, self._unload / rate)

    def plan(self, name: str) -> Plan:
        return (self._span,)


def closed_forms(per_minute: float = 0.5, requests: int = 200_000) -> Row:
    """Simulated Poisson arrivals against the closed forms: the largest relative difference is the figure."""
    rate, draw = per_minute / 60, np.random.default_rng(SEED)
    times = np.cumsum(draw.exponential(1 / rate, requests))
    policy = _KnownRate(rate)
    found = simulate([(float(at), "one") for at in times], policy, 0.0)
    (span,) = policy.plan("one")
    pairs = {
        "load_after_s": (span.start, 7.425),
        "unload_after_min": (span.end / 60, 5.627),
        "cold": (found["cold"], 0.12),
        "residency": (found["residency"], 0.88),
    }
    off = max(abs(got / wanted - 1) for got, wanted in pairs.values())
    return {**{name: round(got, 4) for name, (got, _) in pairs.items()}, "largest_error": round(off, 5)}


def trace(name: str) -> np.ndarray:
    """Seconds of the requests, sorted: one line of RAGPulse stands out of order."""
    with data_file(TRACES[name]).open() as file:
        return np.sort([float(row["timestamp_s"]) for row in csv.DictReader(file)])


def arrivals(times: np.ndarray, adapters: int) -> Arrivals:
    """The requests, dealt to adapters by Zipf's law (exponent 1), seeded."""
    shares = 1 / np.arange(1, adapters + 1)
    dealt = np.random.default_rng(SEED).choice(adapters, len(times), p=shares / shares.sum())
    return [(float(at), f"a{one}") for at, one in zip(times, dealt, strict=True)]


def policies(name: str) -> Iterator[tuple[str, float, Policy]]:
    """Every policy with its one parameter."""
    yield from (("keep-alive", seconds, KeepAlive(seconds)) for seconds in KEEP[name])
    yield from (("preload", window, PoissonPreload(window)) for window in WINDOWS)
    yield from (("hold", window, PoissonPreload(window, load=0.0)) for window in WINDOWS)
    yield from (("learned", patience, LearnedHazard(patience)) for patience in PATIENCE[name])


def frontier(name: str, adapters: int, load_seconds: float) -> list[Row]:
    """What each policy costs and gives."""
    played = arrivals(trace(name), adapters)
    return [
        {"policy": policy, "parameter": parameter, **simulate(played, made, load_seconds)}
        for policy, parameter, made in policies(name)
    ]


def at_residency(rows: Sequence[Row], policy: str, residency: float, figure: str) -> float | None:
    """A figure of the policy at that residency, between the two nearest parameters; None outside of what was tried."""
    points = sorted((row["residency"], row[figure]) for row in rows if row["policy"] == policy)
    if not points[0][0] <= residency <= points[-1][0]:
        return None
    return float(np.interp(residency, [x for x, _ in points], [y for _, y in points]))


def default_over_keep_alive(rows: Sequence[Row], load_seconds: float) -> float | None:
    """The default's waiting over that of a keep-alive of equal residency; None where that one is always resident."""
    figure = "wait_s" if load_seconds else "cold"
    (row,) = (row for row in rows if row["policy"] == "learned" and row["parameter"] == DEFAULT_PATIENCE)
    fixed = at_residency(rows, "keep-alive", row["residency"], figure)
    return round(row[figure] / fixed, 3) if fixed else None


def plot(curves: Mapping[tuple[str, int, float], Sequence[Row]]) -> None:
    """Waiting against residency, a panel for each trace, split and load time. Without matplotlib nothing is drawn."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: install matplotlib", file=sys.stderr)
        return
    drawn = Figure(figsize=(20, 14), layout="constrained")
    panels = drawn.subplots(len(curves) // len(LOAD_SECONDS), len(LOAD_SECONDS))
    for axes, ((name, models, seconds), rows) in zip(panels.flat, curves.items(), strict=True):
        for policy in dict.fromkeys(row["policy"] for row in rows):
            points = sorted((row["residency"], row["cold"]) for row in rows if row["policy"] == policy)
            axes.plot([x for x, _ in points], [y for _, y in points], marker=".", label=policy)
        axes.set(title=f"{name}, {models} models, loads in {seconds:g} s", xlabel="residency", ylabel="cold")
    panels.flat[0].legend()
    out = ROOT / "benchmarks" / "out"
    out.mkdir(exist_ok=True)
    drawn.savefig(out / "residency.png", dpi=70)


def measure() -> Figures:
    """Every trace, split and load time."""
    curves = {
        (name, adapters, seconds): frontier(name, adapters, seconds)
        for name in TRACES
        for adapters in (1, ADAPTERS)
        for seconds in LOAD_SECONDS
    }
    plot(curves)
    forms, one = closed_forms(), curves["ragpulse", 1, 0.0]
    ratios = {key: default_over_keep_alive(rows, key[2]) for key, rows in curves.items()}
    return {
        "closed_forms": forms,
        "closed_form_error": forms["largest_error"],
        "cold_at_75": at_residency(one, "learned", 0.75, "cold"),
        "keep_alive_cold_at_75": at_residency(one, "keep-alive", 0.75, "cold"),
        "default_over_keep_alive": max(ratio for ratio in ratios.values() if ratio is not None),
        "by_trace": [
            {"trace": name, "models": adapters, "load_s": seconds, "default_over_keep_alive": ratio}
            for (name, adapters, seconds), ratio in ratios.items()
        ],
        "ragpulse_at_once": one,
        "ragpulse_15_s": curves["ragpulse", 1, 15.0],
    }


def main() -> int:
    options = parser(__doc__ or "").parse_args()
    return publish("residency", TARGETS, options.json, measure)


if __name__ == "__main__":
    sys.exit(main())
