"""What holders have at once: each holds leases that it renews, so that those of a dead gateway run out.

Streams of a key are such, and answers of a tenant, which are admitted only while few are in flight and few wait in the
workers' queues; all of it is checked in one step. Few are as many as end in the time that users wait, at the pace of
the last ones (ADR-0016): how many are in flight when one ends, itself included, by how long it took, in the mean. Where
all share a processor that is its capacity, at any load: in M/M/1-PS each takes S / (1 - load), and one that ends leaves
load / (1 - load) behind, so the quotient is 1 / S. Where they do not share, it grows with their number.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from services.gateway.limits.meters import PREFIX

SECONDS = 30
"""How long a lease lasts that nobody renews."""

LEAST = 4
"""So many are admitted however long they take."""

MEMORY = 16
"""Of how many answers the pace is the mean; from then on the newest weighs one in so many."""

_PACE_SECONDS = 3_600
"""How long a pace is remembered while nothing ends."""

_ACQUIRE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lease, most, lasts, total = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local waiting, within, least = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local queues = #KEYS - 3
local function share(of) return queues > 0 and math.max(1, math.floor(of / queues)) or 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], lease) then
    local pace = redis.call('HMGET', KEYS[3], 'flying', 'ms')
    if within > 0 and pace[2] then
        local bound = math.max(least, math.floor(pace[1] / pace[2] * within + 0.5))
        total = total > 0 and math.min(total, bound) or bound
    end
    local own, all = redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])
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
"""Keys: leases of the holder, of all; the pace; then every queue, the holder's own first. Times are milliseconds."""

_RELEASE = """
local flying, took, memory = redis.call('ZCARD', KEYS[2]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 and took > 0 then
    local pace = redis.call('HMGET', KEYS[3], 'flying', 'ms', 'answers')
    local answers = math.min((pace[3] or 0) + 1, memory)
    local function mean(before, now) return string.format('%.6f', before + (now - before) / answers) end
    flying, took = mean(pace[1] or 0, flying), mean(pace[2] or 0, took)
    redis.call('HSET', KEYS[3], 'flying', flying, 'ms', took, 'answers', answers)
    redis.call('EXPIRE', KEYS[3], ARGV[4])
end
"""


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


class Leases:
    """Leases by holder, at most `most` each and `total` in all, none while the line is full; 0: any number.

    within: seconds in which all that are held are to end; 0: however long. Raises what Redis raises.
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
    ) -> None:
        self._redis, self._kind, self.most, self.seconds = redis, kind, most, seconds
        self._total, self._line, self._within = total, line, int(within * 1000)
        self._acquire, self._release = redis.register_script(_ACQUIRE), redis.register_script(_RELEASE)

    async def acquire(self, holder: str, lease: str = "") -> str:
        """A new lease, or the given one renewed. Raises Refused."""
        lease = lease or str(uuid.uuid4())
        bounds = [self.most, int(self.seconds * 1000), self._total, self._line.most, self._within]
        refusal = await self._acquire([*self._keys(holder), *self._line.keys(holder)], [lease, *bounds, LEAST])
        if refusal:
            raise Refused(full=refusal == b"full")
        return lease

    async def release(self, holder: str, lease: str, took: float = 0.0) -> None:
        """took: seconds from which the pace is learnt; 0 where there is nothing to learn."""
        await self._release(self._keys(holder), [lease, math.ceil(took * 1000), MEMORY, _PACE_SECONDS])

    def _keys(self, holder: str) -> list[str]:
        """Of the holder's leases, of all leases, and of the pace."""
        return [f"{PREFIX}:{self._kind}:{holder}", f"{PREFIX}:{self._kind}:", f"{PREFIX}:{self._kind}-pace"]
