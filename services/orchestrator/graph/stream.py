"""An answer's events through a Redis stream: who writes them, who reads them, and which attempt counts.

Each answer has a stream and a key that holds the number of the attempt that may write to it. Raising the number fences
whoever worked on the answer before: the check and the append are one atomic script.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from redis.asyncio import Redis

from services.orchestrator.graph.answer import Event

KEPT_SECONDS = 600
"""How long a stream outlives its last event."""

HEARTBEAT_SECONDS = 0.5
SILENCE_SECONDS = 2.0
"""A stream without an event for this long has lost its worker."""

_APPEND = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[1], '*', 'attempt', ARGV[1], 'kind', ARGV[2], 'data', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
"""


class Fenced(Exception):
    """A later attempt has taken over; whoever sees this stops without a word."""


class AnswerStream:
    """The stream of one answer."""

    def __init__(self, redis: Redis, answer_id: str) -> None:
        self._redis = redis
        self._stream = f"almanac:answer:{answer_id}"
        self._attempt = f"{self._stream}:attempt"

    async def admit(self, attempt: int) -> None:
        """From now on only this attempt may append."""
        await self._redis.set(self._attempt, attempt, ex=KEPT_SECONDS)

    async def append(self, attempt: int, event: Event) -> None:
        """Raises Fenced if a later attempt has been admitted."""
        data = json.dumps(event.data, ensure_ascii=False)
        keys_and_arguments = (self._stream, self._attempt, attempt, event.kind, data, KEPT_SECONDS)
        if not await self._redis.eval(_APPEND, 2, *keys_and_arguments):  # type: ignore[misc]
            raise Fenced

    async def released(self) -> str:
        """The text released so far, by whichever attempt."""
        entries = await self._redis.xrange(self._stream)
        events = [_event(fields) for _, fields in entries]
        return "".join(event.data["text"] for event in events if event.kind == "text")

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


async def forget(redis: Redis, answer_ids: Sequence[str]) -> None:
    """Drop what is kept of the answers; whoever still writes to one is fenced."""
    keys = [f"almanac:answer:{answer_id}{part}" for answer_id in answer_ids for part in ("", ":attempt")]
    if keys:
        await redis.delete(*keys)


def _event(fields: dict[bytes, bytes]) -> Event:
    return Event(fields[b"kind"].decode(), json.loads(fields[b"data"]))  # type: ignore[arg-type]
