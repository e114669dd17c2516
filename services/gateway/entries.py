"""Where the answer cache keeps its entries: small values in Redis that expire. An outage only makes them missing."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis

from services.gateway.outage import Outages

log = structlog.get_logger()

PREFIX = "almanac:cache"
_SECONDS = 0.05
"""How long a question waits for an entry."""


class Entries(Protocol):
    """Key → value for a while. Nothing here raises: what cannot be read is missing."""

    async def get(self, key: str) -> str | None: ...

    async def set(self, key: str, value: str, seconds: float) -> None: ...

    async def delete(self, key: str) -> None: ...


class RedisEntries:
    """Entries in Redis. Opening it connects to nothing."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis: Redis = Redis.from_url(url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS)
        self._outages = Outages(
            lambda reason: log.warning("cache_lost", reason=reason), lambda: log.warning("cache_back"), clock
        )

    async def get(self, key: str) -> str | None:
        found = await self._asked(lambda: self._redis.get(_name(key)))
        return None if found is None else bytes(found).decode()

    async def set(self, key: str, value: str, seconds: float) -> None:
        if (life := math.floor(seconds * 1000)) > 0:
            await self._asked(lambda: self._redis.set(_name(key), value, px=life))

    async def delete(self, key: str) -> None:
        await self._asked(lambda: self._redis.delete(_name(key)))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _asked(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """What Redis says; None while it is down."""

        async def in_time() -> Any:
            async with asyncio.timeout(_SECONDS):
                return await work()

        return (await self._outages.ask(in_time))[1]


def _name(key: str) -> str:
    return f"{PREFIX}:{key}"
