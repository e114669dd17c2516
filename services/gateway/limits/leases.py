"""What holders have at once: each holds leases that it renews, so that those of a dead gateway run out.

Streams of a key are such, and answers of a tenant, which are admitted only while few are in flight and few wait in the
workers' queues; all of it is checked in one step.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from services.gateway.limits.meters import PREFIX

SECONDS = 30
"""How long a lease lasts that nobody renews."""

_ACQUIRE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lease, most, lasts, total = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local waiting, share = tonumber(ARGV[5]), tonumber(ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], lease) then
    if total > 0 and redis.call('ZCARD', KEYS[2]) >= total then return 'full' end
    if waiting > 0 and redis.call('LLEN', KEYS[3]) >= share then
        for place = 3, #KEYS do waiting = waiting - redis.call('LLEN', KEYS[place]) end
        if waiting <= 0 then return 'full' end
    end
    if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then return 'held' end
end
for _, leases in ipairs({KEYS[1], KEYS[2]}) do
    redis.call('ZADD', leases, now + lasts, lease)
    redis.call('PEXPIRE', leases, lasts)
end
return ''
"""
"""Keys: leases of the holder, of all; then every queue, the holder's own first."""


class Refused(Exception):
    """A lease is not granted. full: because all holders together have too many, not because this one has its fill."""

    def __init__(self, full: bool) -> None:
        super().__init__("too many in all" if full else "as many as it may have")
        self.full = full


@dataclass(frozen=True, slots=True)
class Line:
    """What waits for workers: the queues, and how many tasks may wait in all of them together, or 0 for any.

    A holder is let in all the same while its own queue holds less than its share: the backlog of others is not its own.
    """

    queues: Sequence[str] = ()
    most: int = 0
    own: Callable[[str], str] = str

    def keys(self, holder: str) -> list[str]:
        """All queues, the holder's own first."""
        own = self.own(holder)
        return [own, *(queue for queue in self.queues if queue != own)] if self.queues else []

    @property
    def share(self) -> int:
        return max(1, self.most // max(1, len(self.queues)))


_NO_LINE = Line()


class Leases:
    """Leases by holder, at most `most` each and `total` in all, none while the line is full; 0: any number.

    Raises what Redis raises.
    """

    def __init__(
        self,
        redis: Redis,
        kind: str,
        most: int,
        total: int = 0,
        line: Line = _NO_LINE,
        seconds: float = SECONDS,
    ) -> None:
        self._redis, self._kind, self.most, self.seconds = redis, kind, most, seconds
        self._total, self._line = total, line
        self._script = redis.register_script(_ACQUIRE)

    async def acquire(self, holder: str, lease: str = "") -> str:
        """A new lease, or the given one renewed. Raises Refused."""
        lease = lease or str(uuid.uuid4())
        keys = [self._key(holder), self._key(), *self._line.keys(holder)]
        lasts = int(self.seconds * 1000)
        refusal = await self._script(keys, [lease, self.most, lasts, self._total, self._line.most, self._line.share])
        if refusal:
            raise Refused(full=refusal == b"full")
        return lease

    async def release(self, holder: str, lease: str) -> None:
        for key in (self._key(holder), self._key()):
            await self._redis.zrem(key, lease)

    def _key(self, holder: str = "") -> str:
        """Of a holder's leases; of all without one."""
        return f"{PREFIX}:{self._kind}:{holder}"
