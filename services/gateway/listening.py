"""Listen to an answer: what comes together at a time with heartbeats, as server-sent events, or all of it at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from services.common.errors import Internal, Unavailable
from services.gateway.broker import FAILURES
from services.gateway.context import Context
from services.gateway.dispatch import Answering
from services.gateway.problems import from_problem
from services.orchestrator.graph.answer import Event, Question

LAST = ("done", "error")
HEARTBEAT = ": heartbeat\n\n"
_LOOK_SECONDS = 0.5


async def listen(
    context: Context, question: Question, silence: float, answering: Answering | None = None, linger: float = 0.0
) -> AsyncGenerator[Sequence[Event], None]:
    """The events of an answer, those that come together at once, the last one `done` or `error`.

    silence: an empty sequence comes after each so many seconds of nothing.
    `answering`: what tells them, if not the context's own. Closing the iterator stops the work for this client, who may
    come back within `linger` seconds, on any gateway.
    """
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    working = asyncio.ensure_future((answering or context.answering)(question, events.put))
    working.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while True:
            try:
                async with asyncio.timeout(silence):
                    told = await _together(events)
            except TimeoutError:
                yield ()
                continue
            last = told[-1]
            if last.kind == "done":
                if answering is None and not last.data["answer"].get("cached_from"):
                    context.limiter.answered()
                await charged(context, question, last)
            yield told
            if last.kind in LAST:
                return
    finally:
        if linger and not working.done():
            context.lingering.keep(_linger(context, question, events, working, linger))
        else:
            working.cancel()


async def _together(events: asyncio.Queue[Event | None]) -> Sequence[Event]:
    """What has come, at least one event, nothing beyond the last one. Raises Internal where none will come."""
    told: list[Event] = []
    event = await events.get()
    while event is not None:
        told.append(event)
        if event.kind in LAST or events.empty():
            return told
        event = events.get_nowait()
    if not told:
        raise Internal("the answer ended without a word")
    events.put_nowait(None)
    return told


async def _linger(
    context: Context,
    question: Question,
    events: asyncio.Queue[Event | None],
    working: asyncio.Future[None],
    most: float,
) -> None:
    """Let the answer of a client that was cut off go on, `most` seconds. A gateway that stops leaves it to others."""
    try:
        async with asyncio.timeout(most):
            while (event := await events.get()) is not None:
                if event.kind == "done":
                    await charged(context, question, event)
    except TimeoutError:
        pass
    except asyncio.CancelledError:
        with suppress(*FAILURES):
            await context.broker.stream(question.answer_id).follow("another gateway")
        raise
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def charged(context: Context, question: Question, done: Event) -> None:
    """Count what the answer took that the question's last event tells."""
    await charge(context, question.tenant, question.key_id, done.data["answer"]["usage"], question.answer_id)


async def charge(context: Context, tenant: str, key_id: str, usage: Mapping[str, int], answer_id: str = "") -> None:
    """Count the tokens that an answer took; those of an answer with an id once, however many listen to its end."""
    used = sum(int(usage.get(name, 0)) for name in ("prompt_tokens", "completion_tokens"))
    quotas = await context.quotas.of(tenant, await context.keyring.user_of(key_id), "tokens")
    await context.limiter.charge(tenant, key_id, used, answer_id, quotas)


async def collect(context: Context, question: Question, request: Request) -> Mapping[str, Any]:
    """The finished answer. Raises what it failed with; gives up on a client that has left."""
    async with aclosing(listen(context, question, _LOOK_SECONDS)) as events:
        async for told in events:
            if not told and await request.is_disconnected():
                raise Unavailable("the client has left")
            if told and told[-1].kind == "error":
                raise from_problem(told[-1].data["problem"])
            if told and told[-1].kind == "done":
                answer: Mapping[str, Any] = told[-1].data["answer"]
                return answer
    raise Internal("the answer ended without a word")


def sse(name: str, data: Mapping[str, Any], event_id: str = "") -> str:
    """One server-sent event (WHATWG HTML, section 9.2)."""
    named = f"id: {event_id}\n" if event_id else ""
    return f"{named}event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def stream(chunks: AsyncIterator[str]) -> StreamingResponse:
    """A response that no proxy holds back."""
    # It may outlast the gateway's readiness, and then nothing can follow it on its connection.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Connection": "close"}
    return StreamingResponse(chunks, media_type="text/event-stream", headers=headers)
