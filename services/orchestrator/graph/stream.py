"""An answer's events through a Redis stream: who writes them, who reads them, and which attempt counts.

Each answer has a stream and a key that holds the number of the attempt that may write to it. Raising the number fences
whoever worked on the answer before: the check and the append are one atomic script.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from redis.asyncio import Redis

from services.orchestrator.graph.answer import Event
from services.orchestrator.graph.released import NOTHING, Released

KEPT_SECONDS = 600
"""How long a stream outlives its last event."""

HEARTBEAT_SECONDS = 0.5
SILENCE_SECONDS = 2.0
"""A stream without an event for this long has lost its worker."""

LENT_SECONDS = 30
"""How long a question's vector is kept for a worker that has not taken it."""

_PARTS = (":attempt", ":told", ":reader", ":vector")
"""Of the keys beside a stream."""

_APPEND = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
for place = 3, #ARGV, 2 do
    redis.call('XADD', KEYS[1], '*', 'attempt', ARGV[1], 'kind', ARGV[place], 'data', ARGV[place + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
"""


class Fenced(Exception):
    """A later attempt has taken over; whoever sees this stops without a word."""


class AnswerStream:
    """The stream of one answer."""

    def __init__(self, redis: Redis, answer_id: str) -> None:
        self._redis = redis
        self._stream = f"almanac:answer:{answer_id}"
        self._attempt, self._told, self._reader, self._vector = (f"{self._stream}{part}" for part in _PARTS)

    async def admit(self, attempt: int) -> None:
        """From now on only this attempt may append."""
        await self._redis.set(self._attempt, attempt, ex=KEPT_SECONDS)

    async def require(self, attempt: int) -> None:
        """Raises Fenced unless this attempt may append."""
        if await self._redis.get(self._attempt) != str(attempt).encode():
            raise Fenced

    async def hand_over(self, released: Released) -> None:
        """Tell the attempt that is admitted what of the answer the client has."""
        await self._redis.set(self._told, released.to_json(), ex=KEPT_SECONDS)

    async def append(self, attempt: int, *events: Event) -> None:
        """All of them or none. Raises Fenced if a later attempt has been admitted."""
        told = [part for event in events for part in (event.kind, json.dumps(event.data, ensure_ascii=False))]
        keys_and_arguments: list[str | int] = [self._stream, self._attempt, attempt, KEPT_SECONDS, *told]
        if not await self._redis.eval(_APPEND, 2, *keys_and_arguments):  # type: ignore[misc]
            raise Fenced

    async def released(self) -> Released:
        """What the client has of earlier attempts; it outlives their events, which a broker may lose."""
        found = await self._redis.get(self._told)
        return NOTHING if found is None else Released.from_json(found.decode())

    async def lend(self, vector: bytes) -> None:
        """Give the question's vector, little-endian float32, to whoever works on the answer; empty: there is none."""
        async with self._redis.pipeline(transaction=False) as both:
            both.rpush(self._vector, vector)
            both.expire(self._vector, LENT_SECONDS)
            await both.execute()

    async def lent(self, seconds: float) -> bytes:
        """The question's vector as soon as it is given; empty where there is none, or none in time."""
        found = await self._redis.blpop([self._vector], timeout=seconds)  # type: ignore[misc]
        return b"" if found is None else bytes(found[1])

    async def follow(self, reader: str) -> None:
        """From now on this reader is the one that the answer is for."""
        await self._redis.set(self._reader, reader, ex=KEPT_SECONDS)

    async def followed(self, reader: str) -> bool:
        """Whether the answer is for another reader now."""
        return await self._redis.get(self._reader) not in (None, reader.encode())

    async def read(self, silence: float = SILENCE_SECONDS, after: str = "0") -> AsyncIterator[tuple[str, Event]]:
        """(position, event) from `after` on, heartbeats too. Raises TimeoutError after `silence` seconds of none."""
        while True:
            found = await self._redis.xread({self._stream: after}, block=int(silence * 1000), count=100)
            if not found:
                raise TimeoutError
            entries = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
            for position, fields in entries:
                after = position.decode()
                yield after, _event(fields)

    async def rest(self, after: str) -> list[tuple[str, Event]]:
        """(position, event) of all that is there beyond `after`, without waiting."""
        entries = await self._redis.xrange(self._stream, f"({after}")
        return [(position.decode(), _event(fields)) for position, fields in entries]


async def forget(redis: Redis, answer_ids: Sequence[str]) -> None:
    """Drop what is kept of the answers; whoever still writes to one is fenced."""
    keys = [f"almanac:answer:{answer_id}{part}" for answer_id in answer_ids for part in ("", *_PARTS)]
    if keys:
        await redis.delete(*keys)


def _event(fields: dict[bytes, bytes]) -> Event:
    return Event(fields[b"kind"].decode(), json.loads(fields[b"data"]))  # type: ignore[arg-type]
