"""Two real traces replayed against the local stack, and what it does at twice the rate that it can sustain.

The gateway admits as many answers at once as end `within` some seconds (ADR-0016): its places, counted by asking many
more at once. The sustainable rate is what as many clients reach, each asking again when it has its answer (`full`):
more is not to be had, and the machine is full although nothing is refused.

Each trace gives the arrivals and the length of the answers: a stretch of its requests, its time scaled so that they
come at `share` of that rate on average, bursts and all. Then Poisson arrivals at twice the rate (`over`): what is too
much must be refused at once, and what is accepted must take no longer than on the full machine (`over_p95_ratio`).

Poisson arrivals at the sustainable rate itself are played too (`even`), and told beside (`over_to_even_p95`), but
nothing is held to them: at a load of one a line has no steady state, so how full they find the machine is chance and
the length of the run. Source of the traces: ../shared/data/README.md.
"""

from __future__ import annotations

import asyncio
import csv
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from redis.asyncio import Redis

from benchmarks.asking import Told, ask
from benchmarks.common import ROOT, Figures, Stack, data_file, parser, publish, running_stack
from pipelines.evaluation import Targets
from pipelines.evaluation.squad import load_squad, sample
from services.admin.client import Gateway
from services.admin.measure.answers import ingest_paragraphs
from services.common.settings import Settings
from services.orchestrator.graph.queues import answer_queues

TARGETS: Targets = {
    "errors": {"max": 0},
    "over_refused_share": {"min": 0.25},
    "over_refused_ms_p95": {"max": 250.0},
    "over_p95_ratio": {"max": 1.25},
}
TRACES = {"ragpulse": "traces/ragpulse.csv", "azure": "traces/azure_conv.csv"}
QUESTIONS, COLLECTION, SEED = "xquad.en.json", "xquad", 7
_MOST_TOKENS = 32
_WARM_UP_CLIENTS, _WARM_UP_SECONDS = 4, 20.0
_ASKED_AT_ONCE = 64
"""More than any machine has places for."""
_SAMPLE_SECONDS = 0.25


class Arrival(NamedTuple):
    """A request: seconds from the beginning, and the most tokens of its answer."""

    at: float
    tokens: int


class Sustained(NamedTuple):
    """What clients are told who ask again at once; places: how many they were. rate: answers a second."""

    told: Sequence[Told]
    places: int
    rate: float


class Replayed(NamedTuple):
    """What became of all requests, and (second, tasks in the queue, requests in flight) every quarter of a second."""

    told: Sequence[Told]
    lengths: Sequence[tuple[float, int, int]]


def measure(requests: int, seconds: float, share: float, within: float) -> Figures:
    """All replays, one after the other on one stack. Raises MissingData."""
    for name in TRACES.values():
        data_file(name)
    squad = load_squad(data_file(QUESTIONS))
    texts = [question.text for question in sample(squad.questions, 300, SEED)]
    with running_stack(ALMANAC_ANSWERS_WITHIN_SECONDS=str(within)) as stack:
        ingest_paragraphs(Gateway(stack.url), squad.paragraphs, COLLECTION)
        full, replays = asyncio.run(_replays(stack, texts, requests, seconds, share))
    plot(replays)
    told = {"full": _told("full", full.told)}
    told |= {name: _told(name, one.told) | _lengths(name, one.lengths) for name, one in replays.items()}
    over = replays["over"].told
    p95 = {name: figures[f"{name}_total_ms_p95"] for name, figures in told.items()}
    return {
        "sustainable_per_second": round(full.rate, 2),
        "places": full.places,
        "requests": requests,
        "share": share,
        "within_seconds": within,
        **{name: value for figures in told.values() for name, value in figures.items()},
        "errors": sum(figures[f"{name}_errors"] for name, figures in told.items()),
        "over_refused_share": round(sum(one.refused for one in over) / len(over), 3),
        "over_refused_ms_p95": _percentile([one.ms for one in over if one.refused], 95),
        "over_p95_ratio": round(p95["over"] / p95["full"], 3),
        "over_to_even_p95": round(p95["over"] / p95["even"], 3),
    }


def _told(name: str, told: Sequence[Told]) -> Figures:
    first = [one.first_ms for one in told if one.answer]
    return {
        f"{name}_answered": len(first),
        f"{name}_refused": sum(one.refused for one in told),
        f"{name}_errors": sum(one.answer is None and not one.refused for one in told),
        f"{name}_degraded": sum(bool(one.answer and one.answer["degraded"]) for one in told),
        **{f"{name}_first_text_ms_p{at}": _percentile(first, at) for at in (50, 95, 99)},
        **{f"{name}_total_ms_p{at}": _percentile(_answered(told), at) for at in (50, 95, 99)},
    }


def _lengths(name: str, lengths: Sequence[tuple[float, int, int]]) -> Figures:
    return {
        f"{name}_queue_mean": round(statistics.mean(queued for _, queued, _ in lengths), 2),
        f"{name}_queue_max": max(queued for _, queued, _ in lengths),
        f"{name}_in_flight_max": max(flying for _, _, flying in lengths),
    }


def _answered(told: Sequence[Told]) -> list[float]:
    return [one.ms for one in told if one.answer]


def _percentile(values: Sequence[float], at: int) -> float:
    return round(float(np.percentile(values, at)), 1) if len(values) else 0.0


def arrivals(name: str, count: int, rate: float) -> list[Arrival]:
    """A stretch from the middle of the trace, its time scaled to the mean rate. Answers end at _MOST_TOKENS tokens."""
    with data_file(TRACES[name]).open() as file:
        rows = sorted((float(row["timestamp_s"]), int(row["output_tokens"])) for row in csv.DictReader(file))
    begin = max(0, (len(rows) - count) // 2)
    stretch = rows[begin : begin + count]
    first, last = stretch[0][0], stretch[-1][0]
    scale = (len(stretch) - 1) / rate / (last - first)
    return [Arrival((at - first) * scale, max(1, min(tokens, _MOST_TOKENS))) for at, tokens in stretch]


def poisson(rate: float, seconds: float) -> list[Arrival]:
    """Seeded arrivals, as many a second on average, all of the longest answers."""
    gaps = np.random.default_rng(SEED).exponential(1 / rate, int(rate * seconds * 2) + 10)
    return [Arrival(float(at), _MOST_TOKENS) for at in np.cumsum(gaps) if at < seconds]


async def _replays(
    stack: Stack, texts: Sequence[str], requests: int, seconds: float, share: float
) -> tuple[Sustained, Mapping[str, Replayed]]:
    asking = cycle(texts)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=stack.url, timeout=120, trust_env=False, limits=limits) as client:
        await _sustained(client, asking, _WARM_UP_CLIENTS, _WARM_UP_SECONDS)
        full = await _sustained(client, asking, await _places(client, asking), seconds)
        planned = {name: arrivals(name, requests, full.rate * share) for name in TRACES}
        planned |= {"even": poisson(full.rate, seconds), "over": poisson(2 * full.rate, seconds)}
        return full, {name: await _replay(stack, client, asking, coming) for name, coming in planned.items()}


async def _places(client: httpx.AsyncClient, texts: Iterator[str]) -> int:
    """How many are answered of very many that are asked at once."""
    asked = (ask(client, next(texts), COLLECTION, max_tokens=_MOST_TOKENS) for _ in range(_ASKED_AT_ONCE))
    return sum(told.answer is not None for told in await asyncio.gather(*asked))


async def _sustained(client: httpx.AsyncClient, texts: Iterator[str], clients: int, seconds: float) -> Sustained:
    """What the clients are told; one that is refused asks again when it is told to."""
    until, told = time.perf_counter() + seconds, list[Told]()

    async def one() -> None:
        while time.perf_counter() < until:
            told.append(await ask(client, next(texts), COLLECTION, max_tokens=_MOST_TOKENS))
            await asyncio.sleep(float(told[-1].retry_after or 0))

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return Sustained(told, clients, len(_answered(told)) / (time.perf_counter() - began))


async def _replay(stack: Stack, client: httpx.AsyncClient, texts: Iterator[str], coming: Sequence[Arrival]) -> Replayed:
    """Every request at its time, whatever became of those before."""
    flying: set[asyncio.Task[Told]] = set()
    asked: list[asyncio.Task[Told]] = []
    async with _sampling(stack, flying) as lengths:
        began = time.perf_counter()
        for arrival in coming:
            await asyncio.sleep(max(0.0, began + arrival.at - time.perf_counter()))
            task = asyncio.create_task(ask(client, next(texts), COLLECTION, max_tokens=arrival.tokens))
            flying.add(task)
            task.add_done_callback(flying.discard)
            asked.append(task)
        told = await asyncio.gather(*asked)
    return Replayed(told, lengths)


@asynccontextmanager
async def _sampling(stack: Stack, flying: set[asyncio.Task[Told]]) -> AsyncIterator[list[tuple[float, int, int]]]:
    settings = Settings(home=stack.home)
    redis: Redis = Redis.from_url(settings.broker_url)
    queues = answer_queues(settings.answer_queues)
    found: list[tuple[float, int, int]] = []
    began = time.perf_counter()

    async def sample() -> None:
        while True:
            queued = sum([await redis.llen(queue) for queue in queues])  # type: ignore[misc]
            found.append((time.perf_counter() - began, queued, len(flying)))
            await asyncio.sleep(_SAMPLE_SECONDS)

    sampling = asyncio.create_task(sample())
    try:
        yield found
    finally:
        sampling.cancel()
        await redis.aclose()


def plot(replays: Mapping[str, Replayed]) -> None:
    """What is in flight and in the queue over time, and how long answers took, in benchmarks/out; with matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: install matplotlib", file=sys.stderr)
        return
    drawn = Figure(figsize=(14, 4 * len(replays)), layout="constrained")
    panels = drawn.subplots(len(replays), 2)
    for (name, (told, lengths)), (waiting, taking) in zip(replays.items(), panels, strict=True):
        seconds = [at for at, _, _ in lengths]
        waiting.plot(seconds, [flying for _, _, flying in lengths], label="in flight")
        waiting.plot(seconds, [queued for _, queued, _ in lengths], label="in the queue")
        waiting.set(title=name, xlabel="s")
        waiting.legend()
        for label, values in (("first text", [one.first_ms for one in told if one.answer]), ("total", _answered(told))):
            taking.plot(sorted(values), np.linspace(0, 1, len(values)), label=label)
        taking.set(title=f"{name}: share of answers within", xlabel="ms")
        taking.legend()
    out = ROOT / "benchmarks" / "out"
    out.mkdir(exist_ok=True)
    drawn.savefig(Path(out, "replay_trace.png"))


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--requests", type=int, default=150, help="requests of each trace")
    options.add_argument("--seconds", type=float, default=60.0, help="how long the rates are held")
    options.add_argument("--share", type=float, default=0.5, help="mean rate of a trace, as a share of the sustainable")
    options.add_argument("--within", type=float, default=8.0, help="seconds that an answer may take")
    chosen = options.parse_args()
    given = (chosen.requests, chosen.seconds, chosen.share, chosen.within)
    return publish("replay_trace", TARGETS, chosen.json, lambda: measure(*given))


if __name__ == "__main__":
    sys.exit(main())
