"""What an attempt tells on its way out: the graph never waits for the broker, whatever is ready goes in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby

from services.orchestrator.graph.answer import Event
from services.orchestrator.graph.stream import AnswerStream

CAN_WAIT = ("alive", "step")
WAIT_SECONDS = 0.01
"""What nobody reads an answer for goes out with what comes soon after; each call costs every process on its way."""


class Outbox:
    """The events of one attempt, sent in order by `run`; while one call is under way the next ones gather."""

    def __init__(self, stream: AnswerStream, attempt: int) -> None:
        self._stream, self._attempt = stream, attempt
        self._events: list[Event] = []
        self._waiting = asyncio.Event()
        self._closed = False

    async def put(self, event: Event) -> None:
        """Returns at once."""
        self._events.append(event)
        if event.kind not in CAN_WAIT:
            self._waiting.set()
        elif len(self._events) == 1:
            asyncio.get_running_loop().call_later(WAIT_SECONDS, self._waiting.set)

    def close(self) -> None:
        """Nothing more is coming: `run` ends when all is sent."""
        self._closed = True
        self._waiting.set()

    async def run(self) -> None:
        """Send until closed. Raises Fenced if a later attempt has been admitted, RedisError, OSError."""
        while self._events or not self._closed:
            await self._waiting.wait()
            self._waiting.clear()
            events, self._events = self._events, []
            if events:
                await self._stream.append(self._attempt, *joined(events))


def joined(events: Sequence[Event]) -> list[Event]:
    """The same with texts that follow each other as one."""
    found: list[Event] = []
    for kind, together in groupby(events, key=lambda event: event.kind):
        if kind == "text":
            found.append(Event("text", {"text": "".join(event.data["text"] for event in together)}))
        else:
            found.extend(together)
    return found
