"""Concurrent calls to a node in common messages, so that a message's cost is shared.

While a message of this process is on its way, what its callers ask for gathers, and leaves when that one is answered; a
full message leaves at once. So nothing waits for a node that has nothing to do, and the more ask, the more each holds.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from services.common.errors import AlmanacError, DeadlineExceeded, Internal, InvalidRequest, TooLarge
from services.common.rpc.deadlines import remaining

WAIT_SECONDS = 0.1
"""A message that is on its way for longer holds nobody up any more: the node may be stuck, and another replica free."""


class Sliced(Protocol):
    def __getitem__(self, index: slice, /) -> Any: ...


Item = TypeVar("Item")
Answers = TypeVar("Answers", bound=Sliced)


@dataclass(eq=False, slots=True)
class _Call(Generic[Item]):
    items: Sequence[Item]
    seconds: float
    """What it has left, infinity where it has no deadline."""
    done: asyncio.Future[Any]
    context: Context = field(default_factory=copy_context)
    message: _Message[Item] | None = None


@dataclass(eq=False, slots=True)
class _Message(Generic[Item]):
    calls: list[_Call[Item]]
    counted: bool = True
    task: asyncio.Task[None] | None = None


class Coalescer(Generic[Item, Answers]):
    """Sends the items of several calls at once with `send`, which answers each item in order.

    Each call has its own deadline and may be cancelled; a message goes in the context of the caller with the most time,
    and is cancelled once nobody waits for it. What may be one caller's own fault is tried again for each alone.
    """

    def __init__(self, send: Callable[[list[Item]], Awaitable[Answers]], full: int) -> None:
        """full: with so many items a message leaves at once; with more, only those of one call."""
        self._send, self._full = send, full
        self._waiting: deque[_Call[Item]] = deque()
        self._on_their_way = 0
        self._due = False

    async def call(self, items: Sequence[Item]) -> Answers:
        """The answers to these items. Raises what `send` raises for them, DeadlineExceeded when this call's is over."""
        seconds = remaining(math.inf)
        asked = _Call(items, seconds, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._hurry()
        limit = asyncio.timeout(None if seconds == math.inf else seconds)
        try:
            async with limit:
                answers: Answers = await asked.done
                return answers
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded("no answer came in time") from error
        finally:
            self._leave(asked)

    def _leave(self, asked: _Call[Item]) -> None:
        if asked.message is None:
            self._waiting.remove(asked)
        elif asked.done.cancelled() and all(call.done.done() for call in asked.message.calls) and asked.message.task:
            asked.message.task.cancel()

    def _hurry(self) -> None:
        """Send in the loop's next turn: those who are answered in this one ask at once what they ask next."""
        if not self._due and self._may_leave():
            self._due = True
            asyncio.get_running_loop().call_soon(self._leave_together)

    def _may_leave(self) -> bool:
        full = sum(len(call.items) for call in self._waiting) >= self._full
        return bool(self._waiting) and (full or not self._on_their_way)

    def _leave_together(self) -> None:
        self._due = False
        while self._may_leave():
            message = _Message(self._take())
            for call in message.calls:
                call.message = message
            self._carry(message)

    def _take(self) -> list[_Call[Item]]:
        """Those who have waited longest."""
        taken = [self._waiting.popleft()]
        held = len(taken[0].items)
        while self._waiting and held + len(self._waiting[0].items) <= self._full:
            taken.append(self._waiting.popleft())
            held += len(taken[-1].items)
        return taken

    def _carry(self, message: _Message[Item]) -> None:
        self._on_their_way += 1
        most_time = max(message.calls, key=lambda call: call.seconds)
        message.task = asyncio.create_task(self._answer(message.calls), context=most_time.context)
        late = asyncio.get_running_loop().call_later(WAIT_SECONDS, self._release, message)
        message.task.add_done_callback(lambda _: late.cancel())
        message.task.add_done_callback(lambda _: self._release(message))

    def _release(self, message: _Message[Item]) -> None:
        if message.counted:
            message.counted = False
            self._on_their_way -= 1
            self._hurry()

    async def _answer(self, calls: Sequence[_Call[Item]]) -> None:
        try:
            answers = await self._send([item for call in calls for item in call.items])
        except Exception as error:
            await self._failed(calls, error)
            return
        first = 0
        for call in calls:
            if not call.done.done():
                call.done.set_result(answers[first : first + len(call.items)])
            first += len(call.items)

    async def _failed(self, calls: Sequence[_Call[Item]], error: Exception) -> None:
        if len(calls) > 1 and (isinstance(error, _OWN) or not isinstance(error, AlmanacError)):
            await asyncio.gather(*(self._answer([call]) for call in calls if not call.done.done()))
            return
        for call in calls:
            if not call.done.done():
                call.done.set_exception(error)


_OWN = (InvalidRequest, TooLarge, Internal)
"""Errors that the items of one call may have brought upon all of a message."""
