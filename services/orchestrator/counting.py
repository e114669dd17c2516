"""The events of searches, answers and feedback, counted as they fall due: a loop beside the sweeper."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from pipelines.aggregate import Aggregator

log = structlog.get_logger()

BUSY_SECONDS, IDLE_SECONDS = 60.0, 3_600.0
"""How often the counts are materialized: while events come in, and while windows do nothing but expire."""


class Counting:
    """Counts until cancelled. `seconds` lie between two looks."""

    def __init__(self, aggregator: Aggregator, seconds: float) -> None:
        self._aggregator, self._seconds = aggregator, seconds
        self._counted = False
        self._materialized = 0.0

    async def run(self) -> None:
        self._materialized = asyncio.get_running_loop().time()
        while True:
            await self._guarded("count", self._count)
            await self._guarded("materialize", self._materialize_sometimes)
            await asyncio.sleep(self._seconds)

    async def _guarded(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """One failure must not be the last."""
        try:
            await work()
        except Exception as error:
            log.warning("counting_failed", step=what, reason=str(error), kind=type(error).__name__)

    async def _count(self) -> None:
        if await self._aggregator.count():
            self._counted = True

    async def _materialize_sometimes(self) -> None:
        clock = asyncio.get_running_loop().time()
        if clock - self._materialized < (BUSY_SECONDS if self._counted else IDLE_SECONDS):
            return
        self._materialized, self._counted = clock, False
        await self._aggregator.materialize()
