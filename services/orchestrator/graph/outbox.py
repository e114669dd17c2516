"""What an attempt tells on its way out: the graph never waits for the broker, whatever is ready goes in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby

from services.orchestrator.graph.answer import Event
from services.orchestrator.graph.stream import AnswerStream

WAIT_SECONDS = {"alive": 0.25, "step": 0.25, "citation": 0.005, "text": 0.005}
"""How long an event waits for what comes soon after, for each call costs every process on its way: long where nobody
reads an answer for it. What ends an answer never waits."""


class Outbox:
    """The events of one attempt, sent in order by `run`; while one call is under way the next ones gather."""

    def __init__(self, stream: AnswerStream, attempt: int) -> None:
        self._stream, self._attempt = stream, attempt
        self._events: list[Event] = []
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def put(self, event: Event) -> None:
        """Returns at once."""
        self._events.append(event)
        if event.kind in WAIT_SECONDS:
            self._within(WAIT_SECONDS[event.kind])
        else:
            self._due.set()

    def close(self) -> None:
        """Nothing more is coming: `run` ends when all is sent."""
        self._closed = True
        self._due.set()

    async def run(self) -> None:
        """Send until closed. Raises Fenced if a later attempt has been admitted, RedisError, OSError."""
        while self._events or not self._closed:
            await self._due.wait()
            self._due.clear()
            self._stop_timer()
            events, self._events = self._events, []
            if events:
                await self._stream.append(self._attempt, *joined(events))

    def _within(self, seconds: float) -> None:
        """Send what there is in so many seconds, or sooner."""
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() > loop.time() + seconds:
            self._stop_timer()
            self._timer = loop.call_later(seconds, self._due.set)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def joined(events: Sequence[Event]) -> list[Event]:
    """The same with texts that follow each other as one."""
    found: list[Event] = []
    for kind, together in groupby(events, key=lambda event: event.kind):
        if kind == "text":
            found.append(Event("text", {"text": "".join(event.data["text"] for event in together)}))
        else:
            found.extend(together)
    return found
