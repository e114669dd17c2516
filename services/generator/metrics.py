"""What the generator counts, and what its engine says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

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


def count(last: Chunk) -> None:
    """Count the tokens of a finished request."""
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
