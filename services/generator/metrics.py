"""What the generator counts, and what its engine says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.common.errors import AlmanacError
from services.common.metrics import REGISTRY, SECONDS
from services.common.nodes.generator import Chunk, Stats

_EVERY_SECONDS = 5.0

FIRST_CHUNK_SECONDS = Histogram(
    "almanac_generator_first_chunk_seconds",
    "Seconds from a request to its first text: waiting and reading the prompt.",
    buckets=SECONDS,
    registry=REGISTRY,
)
TOKENS = Counter(
    "almanac_generator_tokens",
    "Tokens of prompts, of prompts from the cache, and written.",
    ("kind",),
    registry=REGISTRY,
)
RUNNING = Gauge("almanac_generator_running", "Requests being decoded.", registry=REGISTRY)
WAITING = Gauge("almanac_generator_waiting", "Requests that wait for a slot.", registry=REGISTRY)
KV_USAGE = Gauge("almanac_generator_kv_usage_ratio", "Share of the key-value cache in use.", registry=REGISTRY)
PREEMPTIONS = Gauge("almanac_generator_preemptions", "Answers that lost their memory so far.", registry=REGISTRY)
LOADS = Counter(
    "almanac_generator_loads",
    "Loads of the model and of adapters: asked for, ahead of a request, told to.",
    ("kind", "type"),
    registry=REGISTRY,
)
UNLOADS = Counter(
    "almanac_generator_unloads",
    "Unloads of the model and of adapters: idle, to make room, told to.",
    ("kind", "type"),
    registry=REGISTRY,
)
LOAD_SECONDS = Histogram(
    "almanac_generator_load_seconds", "Seconds a load took.", ("kind",), buckets=SECONDS, registry=REGISTRY
)
REQUESTS = Counter(
    "almanac_generator_starts",
    "Requests for the model and for adapters: warm, or cold where they waited for a load.",
    ("kind", "state"),
    registry=REGISTRY,
)
RESIDENT_SECONDS = Counter(
    "almanac_generator_resident_seconds",
    "Seconds for which the model and adapters were in memory, added up.",
    ("kind",),
    registry=REGISTRY,
)
RESIDENT_BYTES = Gauge(
    "almanac_generator_resident_bytes",
    "Bytes of the model and of adapters in memory, by their files.",
    ("kind",),
    registry=REGISTRY,
)


@dataclass(slots=True)
class Account:
    """What is counted of one adapter, or of the model; times are seconds of any one clock. kind: adapter or model."""

    kind: str
    size: int
    loads: int = 0
    cold_starts: int = 0
    seconds: float = 0.0
    _counted: float | None = None

    def came(self, why: str, at: float, took: float) -> None:
        """It was loaded: asked, ahead, told."""
        self.loads += 1
        LOADS.labels(self.kind, why).inc()
        LOAD_SECONDS.labels(self.kind).observe(took)
        self.found(at)

    def found(self, at: float) -> None:
        """It is in memory."""
        self._counted = at
        RESIDENT_BYTES.labels(self.kind).inc(self.size)

    def left(self, why: str, at: float) -> None:
        """It was unloaded: idle, room, told."""
        self.tick(at)
        self._counted = None
        UNLOADS.labels(self.kind, why).inc()
        RESIDENT_BYTES.labels(self.kind).dec(self.size)

    def asked(self, cold: bool) -> None:
        self.cold_starts += cold
        REQUESTS.labels(self.kind, "cold" if cold else "warm").inc()

    def tick(self, at: float) -> None:
        """Count the time up to now."""
        if self._counted is not None and at > self._counted:
            RESIDENT_SECONDS.labels(self.kind).inc(at - self._counted)
            self.seconds += at - self._counted
            self._counted = at


def count(last: Chunk) -> None:
    """Count the tokens of a request that has ended, or was closed, with this chunk."""
    TOKENS.labels("prompt").inc(last.prompt_tokens)
    TOKENS.labels("cached").inc(last.cached_tokens)
    TOKENS.labels("completion").inc(last.completion_tokens)


async def follow(stats: Callable[[], Awaitable[Stats]]) -> None:
    """Show what the engine says, every few seconds, until cancelled."""
    while True:
        try:
            show(await stats())
        except AlmanacError as error:
            structlog.get_logger().warning("no_stats", reason=error.detail)
        await asyncio.sleep(_EVERY_SECONDS)


def show(stats: Stats) -> None:
    RUNNING.set(stats.running)
    WAITING.set(stats.waiting)
    KV_USAGE.set(stats.kv_usage)
    PREEMPTIONS.set(stats.preemptions)
