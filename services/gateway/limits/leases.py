"""What holders have at once: each holds leases that it renews, so that those of a dead gateway run out.

Streams of a key are such, and answers of a tenant, which are admitted only while few are in flight and few wait in the
workers' queues; all of it is checked in one step. Few are as many as end in the time that users wait, at the pace of
the last ones (ADR-0016): how many ended for each second in which any was in flight. Where all share a processor that
is its capacity, at any load (the utilization law: throughput by utilization). Where they do not slow each other, it
grows with their number.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from services.gateway.limits.meters import PREFIX

SECONDS = 30
"""How long a lease lasts that nobody renews."""

LEAST = 4
"""So many are admitted however long they take."""

MEMORY_SECONDS = 60.0
"""Of busy time, after which what ended weighs 1 / e in the pace."""

_KNOWN_SECONDS = 3_600
"""How long a pace is remembered while nothing is asked."""

_PACED = """
local clock = redis.call('TIME')
local now = tonumber(ARGV[1])
if now == 0 then now = clock[1] * 1000 + math.floor(clock[2] / 1000) end
local function paced(flying, ended, memory, known)
    local before = redis.call('HMGET', KEYS[3], 'at', 'busy', 'ended')
    local passed = flying > 0 and math.max(0, now - (before[1] or now)) or 0
    local kept = math.exp(-passed / memory)
    local busy = (before[2] or 0) * kept + memory * (1 - kept)
    ended = (before[3] or 0) * kept + ended
    redis.call('HSET', KEYS[3], 'at', now, 'busy', string.format('%.17g', busy), 'ended', string.format('%.17g', ended))
    redis.call('EXPIRE', KEYS[3], known)
    return busy > 0 and math.max(1, ended) / busy or 0
end
"""
"""What both scripts begin with; KEYS[3] is the pace, ARGV[1] the time, or 0 for Redis' own. Times are milliseconds.

While none has ended it is as if one were about to.
"""

_ACQUIRE = (
    _PACED
    + """
local lease, most, lasts, total = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local waiting, within, least = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local queues = #KEYS - 3
local function share(of) return queues > 0 and math.max(1, math.floor(of / queues)) or 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local own, all = redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])
local pace = within > 0 and paced(all, 0, tonumber(ARGV[9]), ARGV[10]) or 0
if not redis.call('ZSCORE', KEYS[1], lease) then
    if pace > 0 then
        local bound = math.max(least, math.floor(pace * within + 0.5))
        total = total > 0 and math.min(total, bound) or bound
    end
    if total > 0 and all >= total and (own >= share(total) or all >= 2 * total) then return 'full' end
    if waiting > 0 and redis.call('LLEN', KEYS[4]) >= share(waiting) then
        for place = 4, #KEYS do waiting = waiting - redis.call('LLEN', KEYS[place]) end
        if waiting <= 0 then return 'full' end
    end
    if most > 0 and own >= most then return 'held' end
end
for _, leases in ipairs({KEYS[1], KEYS[2]}) do
    redis.call('ZADD', leases, now + lasts, lease)
    redis.call('PEXPIRE', leases, lasts)
end
return ''
"""
)
"""Keys: leases of the holder, of all; the pace; then every queue, the holder's own first."""

_RELEASE = (
    _PACED
    + """
if tonumber(ARGV[3]) > 0 then paced(redis.call('ZCARD', KEYS[2]), ARGV[4], tonumber(ARGV[5]), ARGV[6]) end
redis.call('ZREM', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[2])
"""
)


class Refused(Exception):
    """A lease is not granted. full: because all holders together have too many, not because this one has its fill."""

    def __init__(self, full: bool) -> None:
        super().__init__("too many in all" if full else "as many as it may have")
        self.full = full


@dataclass(frozen=True, slots=True)
class Line:
    """What waits for workers: the queues, and how many tasks may wait in all of them together, or 0 for any.

    A holder is let in all the same while less than an even share is its own, of what waits or of what is held: others'
    backlog is not its own. Shares are as many as queues.
    """

    queues: Sequence[str] = ()
    most: int = 0
    own: Callable[[str], str] = str

    def keys(self, holder: str) -> list[str]:
        """All queues, the holder's own first."""
        own = self.own(holder)
        return [own, *(queue for queue in self.queues if queue != own)] if self.queues else []


_NO_LINE = Line()
_MEMORY = (MEMORY_SECONDS * 1000, _KNOWN_SECONDS)


class Leases:
    """Leases by holder, at most `most` each and `total` in all, none while the line is full; 0: any number.

    within: seconds in which all that are held are to end; 0: however long. clock: milliseconds, or 0 for Redis' own.
    Raises what Redis raises.
    """

    def __init__(
        self,
        redis: Redis,
        kind: str,
        most: int,
        total: int = 0,
        line: Line = _NO_LINE,
        within: float = 0.0,
        seconds: float = SECONDS,
        clock: Callable[[], int] = int,
    ) -> None:
        self._redis, self._kind, self.most, self.seconds = redis, kind, most, seconds
        self._total, self._line, self._within = total, line, int(within * 1000)
        self._clock = clock
        self._acquire, self._release = redis.register_script(_ACQUIRE), redis.register_script(_RELEASE)

    async def acquire(self, holder: str, lease: str = "") -> str:
        """A new lease, or the given one renewed. Raises Refused."""
        lease = lease or str(uuid.uuid4())
        bounds = [self.most, int(self.seconds * 1000), self._total, self._line.most, self._within, LEAST]
        keys = [*self._keys(holder), *self._line.keys(holder)]
        refusal = await self._acquire(keys, [self._clock(), lease, *bounds, *_MEMORY])
        if refusal:
            raise Refused(full=refusal == b"full")
        return lease

    async def release(self, holder: str, lease: str, ended: int = 0) -> None:
        """ended: how many answers, since the last was told, were given to their end: from these the pace is learnt."""
        await self._release(self._keys(holder), [self._clock(), lease, self._within, ended, *_MEMORY])

    def _keys(self, holder: str) -> list[str]:
        """Of the holder's leases, of all leases, and of the pace."""
        return [f"{PREFIX}:{self._kind}:{holder}", f"{PREFIX}:{self._kind}:", f"{PREFIX}:{self._kind}-pace"]
