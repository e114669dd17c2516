"""What one holder has at once: each holds a lease that it renews, so that those of a dead gateway run out.

Streams of a key are such, and answers of a tenant, which are admitted only while the queue of the workers is short;
both are checked in one step.
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
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    if ARGV[4] ~= '' and redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[4]) then return 'waiting' end
    if ARGV[2] ~= '0' and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 'held' end
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return ''
"""


class Refused(Exception):
    """A lease is not granted. queued: because too much waits in the queue, not because the holder has its fill."""

    def __init__(self, queued: bool) -> None:
        super().__init__("too much waits" if queued else "as many as it may have")
        self.queued = queued


class Leases:
    """Leases by holder, at most `most` each (0: any number), none while `waiting` tasks wait in the queue.

    Raises what Redis raises.
    """

    def __init__(
        self, redis: Redis, kind: str, most: int, queue: str = "", waiting: int = 0, seconds: float = SECONDS
    ) -> None:
        self._redis, self._kind, self.most, self.seconds = redis, kind, most, seconds
        self._queue, self.waiting = queue, waiting
        self._script = redis.register_script(_ACQUIRE)

    async def acquire(self, holder: str, lease: str = "") -> str:
        """A new lease, or the given one renewed. Raises Refused."""
        lease = lease or str(uuid.uuid4())
        bounds: list[str | int] = [lease, self.most, int(self.seconds * 1000), self.waiting if self._queue else ""]
        refusal = await self._script([self._key(holder), self._queue], bounds)
        if refusal:
            raise Refused(queued=refusal == b"waiting")
        return lease

    async def release(self, holder: str, lease: str) -> None:
        await self._redis.zrem(self._key(holder), lease)

    def _key(self, holder: str) -> str:
        return f"{PREFIX}:{self._kind}:{holder}"
