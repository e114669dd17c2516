"""Listen to an answer: event by event with heartbeats, as server-sent events, or all of it at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from services.common.errors import Internal, Unavailable
from services.gateway.context import Context
from services.gateway.problems import from_problem
from services.orchestrator.graph.answer import Event, Question

LAST = ("done", "error")
HEARTBEAT = ": heartbeat\n\n"
_LOOK_SECONDS = 0.5


async def listen(context: Context, question: Question, silence: float) -> AsyncGenerator[Event | None, None]:
    """The events of an answer, the last one `done` or `error`; None after each `silence` seconds of nothing.

    Closing the iterator stops the work for this client.
    """
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    working = asyncio.ensure_future(context.answering(question, events.put))
    working.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while True:
            try:
                async with asyncio.timeout(silence):
                    event = await events.get()
            except TimeoutError:
                yield None
                continue
            if event is None:
                raise Internal("the answer ended without a word")
            if event.kind == "done":
                await charge(context, question.tenant, question.key_id, event.data["answer"]["usage"])
            yield event
            if event.kind in LAST:
                return
    finally:
        working.cancel()


async def charge(context: Context, tenant: str, key_id: str, usage: Mapping[str, int]) -> None:
    """Count the tokens that an answer took."""
    used = sum(int(usage.get(name, 0)) for name in ("prompt_tokens", "completion_tokens"))
    await context.limiter.charge(tenant, key_id, used)


async def collect(context: Context, question: Question, request: Request) -> Mapping[str, Any]:
    """The finished answer. Raises what it failed with; gives up on a client that has left."""
    async with aclosing(listen(context, question, _LOOK_SECONDS)) as events:
        async for event in events:
            if event is None and await request.is_disconnected():
                raise Unavailable("the client has left")
            if event is not None and event.kind == "error":
                raise from_problem(event.data["problem"])
            if event is not None and event.kind == "done":
                answer: Mapping[str, Any] = event.data["answer"]
                return answer
    raise Internal("the answer ended without a word")


def sse(name: str, data: Mapping[str, Any]) -> str:
    """One server-sent event (WHATWG HTML, section 9.2)."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


async def as_sse(context: Context, question: Question) -> AsyncIterator[str]:
    """An answer's events as server-sent events."""
    async with aclosing(listen(context, question, context.settings.heartbeat_seconds)) as events:
        async for event in events:
            yield HEARTBEAT if event is None else sse(event.kind, event.data)


def stream(chunks: AsyncIterator[str]) -> StreamingResponse:
    """A response that no proxy holds back."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(chunks, media_type="text/event-stream", headers=headers)
