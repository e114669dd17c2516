"""How many streams one key has open: each holds a lease that it renews, so that those of a dead gateway run out."""

from __future__ import annotations

import uuid

from redis.asyncio import Redis

from services.gateway.limits.meters import PREFIX

SECONDS = 30
"""How long a lease lasts that nobody renews."""

_ACQUIRE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
    return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


class Leases:
    """Leases by holder. Raises what Redis raises."""

    def __init__(self, redis: Redis, most: int, seconds: float = SECONDS) -> None:
        self._redis, self.most, self.seconds = redis, most, seconds
        self._script = redis.register_script(_ACQUIRE)

    async def acquire(self, holder: str, lease: str = "") -> str:
        """A new lease, or the given one renewed; empty where the holder has as many as it may."""
        lease = lease or str(uuid.uuid4())
        granted = await self._script([_key(holder)], [lease, self.most, int(self.seconds * 1000)])
        return lease if granted else ""

    async def release(self, holder: str, lease: str) -> None:
        await self._redis.zrem(_key(holder), lease)


def _key(holder: str) -> str:
    return f"{PREFIX}:streams:{holder}"
