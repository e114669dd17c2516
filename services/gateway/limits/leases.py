"""What holders have at once: each holds leases that it renews, so that those of a dead gateway run out.

Streams of a key are such, and answers of a tenant, which are admitted only while few are in flight and few wait in the
workers' queue; all of it is checked in one step.
"""

from __future__ import annotations

import uuid

from redis.asyncio import Redis

from services.gateway.limits.meters import PREFIX

SECONDS = 30
"""How long a lease lasts that nobody renews."""

_ACQUIRE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lease, most, lasts, total, waiting = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], lease) then
    if total > 0 and redis.call('ZCARD', KEYS[2]) >= total then return 'full' end
    if waiting > 0 and redis.call('LLEN', KEYS[3]) >= waiting then return 'full' end
    if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then return 'held' end
end
for _, leases in ipairs({KEYS[1], KEYS[2]}) do
    redis.call('ZADD', leases, now + lasts, lease)
    redis.call('PEXPIRE', leases, lasts)
end
return ''
"""


class Refused(Exception):
    """A lease is not granted. full: because all holders together have too many, not because this one has its fill."""

    def __init__(self, full: bool) -> None:
        super().__init__("too many in all" if full else "as many as it may have")
        self.full = full


class Leases:
    """Leases by holder, at most `most` each and `total` in all, none while `waiting` tasks wait in the queue; 0: any.

    Raises what Redis raises.
    """

    def __init__(
        self,
        redis: Redis,
        kind: str,
        most: int,
        total: int = 0,
        queue: str = "",
        waiting: int = 0,
        seconds: float = SECONDS,
    ) -> None:
        self._redis, self._kind, self.most, self.seconds = redis, kind, most, seconds
        self._total, self._queue, self._waiting = total, queue, waiting
        self._script = redis.register_script(_ACQUIRE)

    async def acquire(self, holder: str, lease: str = "") -> str:
        """A new lease, or the given one renewed. Raises Refused."""
        lease = lease or str(uuid.uuid4())
        bounds: list[str | int] = [lease, self.most, int(self.seconds * 1000), self._total, self._waiting]
        refusal = await self._script([self._key(holder), self._key(), self._queue], bounds)
        if refusal:
            raise Refused(full=refusal == b"full")
        return lease

    async def release(self, holder: str, lease: str) -> None:
        for key in (self._key(holder), self._key()):
            await self._redis.zrem(key, lease)

    def _key(self, holder: str = "") -> str:
        """Of a holder's leases; of all without one."""
        return f"{PREFIX}:{self._kind}:{holder}"
