"""The ways of counting against a quota.

Windows are those of the `limits` library. Buckets, which it lacks, are one small script: an instant is kept for each,
up to which what has flowed in is spent (the virtual scheduling of ITU-T I.371, known as GCRA). The clock is Redis' own.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal, Protocol

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)
from redis.asyncio import Redis

from services.gateway.limits.policies import seconds_to_midnight

PREFIX = "almanac:limits"

Strategy = Literal["token-bucket", "leaky-bucket", "fixed-window", "sliding-window", "moving-window"]

_BUCKET = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, depth, cost, need = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local spent = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now - depth)
local allowed = now - spent >= need * interval
if allowed and cost > 0 then
    spent = spent + cost * interval
    redis.call('SET', KEYS[1], string.format('%.0f', spent), 'PX', math.ceil((spent - now + depth) / 1000) + 1)
end
return {allowed and 1 or 0, math.floor((now - spent) / interval), math.ceil(spent + math.max(need, 0) * interval - now)}
"""
"""Arguments: microseconds a unit takes to flow in, and until the bucket is full; units taken, and needed."""

_DAY = """
local used = redis.call('INCRBY', KEYS[1], ARGV[1])
if used == tonumber(ARGV[1]) then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return used
"""
"""Arguments: units taken, and seconds after which the day is over for sure."""

_NO_NEED = -1e9
"""What is taken is taken, and may leave a debt."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What came of asking for more: whether it is granted, how much is left, and in how many seconds there is more."""

    allowed: bool
    remaining: int
    reset: float


class Meter(Protocol):
    """Counts what `who` takes of a quota. Raises what Redis raises."""

    async def take(self, quota: RateLimitItem, who: str, cost: int = 1) -> Standing: ...


class Bucket:
    """A bucket as deep as the quota, which fills at the quota's rate; or one that lets through at that rate alone."""

    def __init__(self, redis: Redis, leaky: bool = False) -> None:
        self._script, self._leaky = redis.register_script(_BUCKET), leaky

    async def take(self, quota: RateLimitItem, who: str, cost: int = 1) -> Standing:
        if self._leaky:  # one unit deep, so that a client a little late does not lose its turn; filled again before use
            return await self._run(quota, who, 1, cost, 0)
        return await self._run(quota, who, quota.amount, cost, cost)

    async def look(self, quota: RateLimitItem, who: str) -> Standing:
        """Whether anything is left; takes nothing."""
        return await self._run(quota, who, quota.amount, 0, 1)

    async def spend(self, quota: RateLimitItem, who: str, cost: int) -> Standing:
        """Take what was used already; a debt is paid before there is anything again."""
        return await self._run(quota, who, quota.amount, cost, _NO_NEED)

    async def _run(self, quota: RateLimitItem, who: str, units: int, cost: int, need: float) -> Standing:
        interval = 1_000_000 * quota.get_expiry() / quota.amount
        key = f"{PREFIX}:bucket:{quota.key_for(who)}"
        allowed, left, wait_us = await self._script([key], [interval, interval * units, cost, need])
        return Standing(bool(allowed), max(0, int(left)), max(0, int(wait_us)) / 1_000_000)


class Day:
    """A calendar day, UTC, whose date is part of `who`: one round trip, where the library's window takes two."""

    def __init__(self, redis: Redis) -> None:
        self._redis, self._script = redis, redis.register_script(_DAY)

    async def take(self, quota: RateLimitItem, who: str, cost: int = 1) -> Standing:
        return _standing(quota, int(await self._script([_day(quota, who)], [cost, quota.get_expiry()])), 0)

    async def look(self, quota: RateLimitItem, who: str) -> Standing:
        """Whether anything is left; takes nothing."""
        return _standing(quota, int(await self._redis.get(_day(quota, who)) or 0), 1)


def _day(quota: RateLimitItem, who: str) -> str:
    return f"{PREFIX}:day:{quota.key_for(who)}"


def _standing(quota: RateLimitItem, used: int, need: int) -> Standing:
    return Standing(used + need <= quota.amount, max(0, quota.amount - used), seconds_to_midnight())


class Window:
    """A window of the library's."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def take(self, quota: RateLimitItem, who: str, cost: int = 1) -> Standing:
        allowed = await self._limiter.hit(quota, who, cost=cost)
        return await self._standing(quota, who, allowed)

    async def _standing(self, quota: RateLimitItem, who: str, allowed: bool) -> Standing:
        reset, remaining = await self._limiter.get_window_stats(quota, who)
        return Standing(allowed, max(0, math.floor(remaining)), max(0.0, reset - time.time()))


def meter(strategy: Strategy, redis: Redis) -> Meter:
    if strategy in ("token-bucket", "leaky-bucket"):
        return Bucket(redis, strategy == "leaky-bucket")
    windows: dict[str, type[RateLimiter]] = {
        "fixed-window": FixedWindowRateLimiter,
        "sliding-window": SlidingWindowCounterRateLimiter,
        "moving-window": MovingWindowRateLimiter,
    }
    return Window(windows[strategy](storage(redis)))


def storage(redis: Redis) -> RedisStorage:
    """The library's storage over our own connections."""
    pool: object = redis.connection_pool
    return RedisStorage("async+redis://", implementation="redispy", key_prefix=PREFIX, connection_pool=pool)  # type: ignore[arg-type]
