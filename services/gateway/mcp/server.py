"""The protocol's side of the tools, by the `mcp` package. Importing it costs 0.6 s of a core and 24 MB (measured), so
that whoever serves no such client never does.

Every request stands for itself: no session outlives it, so any gateway may serve the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import mcp_types as types
from fastapi import Request
from fastapi.responses import Response
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from starlette.types import Message, Receive, Scope, Send

from services.gateway.caller import hold_answer, identify
from services.gateway.mcp.tools import TOOLS, Asking, Json
from services.gateway.problems import understood

INSTRUCTIONS = (
    "Almanac answers from documents and facts as they stood at any moment. `as_of` is when something is true in the "
    "world, `known_at` is when it was on record; both default to the newest. Quote the citations it gives."
)

Used = ServerRequestContext[Any, Request]

logging.getLogger("mcp").setLevel(logging.WARNING)  # it tells of each request at `info`, as of a new session


def _schema(name: str) -> dict[str, Any] | None:
    return TOOLS[name].arguments.model_json_schema() if name in TOOLS else None


_LISTED = types.ListToolsResult(
    tools=[
        types.Tool(
            name=name,
            title=tool.title,
            description=tool.description,
            input_schema=tool.arguments.model_json_schema(),
            annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
        )
        for name, tool in TOOLS.items()
    ]
)


async def _list(used: Used, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return _LISTED


async def _call(used: Used, params: types.CallToolRequestParams) -> types.CallToolResult:
    """What a tool gives, or why it cannot, for the model to read."""
    tool, request = TOOLS.get(params.name), used.request
    if tool is None:
        raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name[:64]!r}; there are {', '.join(TOOLS)}")
    assert request is not None
    context = request.app.state.context
    try:
        caller = await identify(request, context)
        async with asynccontextmanager(hold_answer)(context, caller) as queueing, _progressing(used, params.name):
            found = await tool.use(Asking(context, caller, request, queueing), params.arguments or {})
    except Exception as error:
        told = understood(error, request.scope["path"])
        return _result(told.detail, told.problem(), is_error=True)
    return _result(tool.words(found), found)


@asynccontextmanager
async def _progressing(used: Used, tool: str) -> AsyncIterator[None]:
    """Meanwhile report progress to a client that asked for it, in seconds, as often as a stream has a heartbeat."""
    assert used.request is not None
    pause, began = used.request.app.state.context.settings.heartbeat_seconds, time.monotonic()

    async def report() -> None:
        while True:
            await asyncio.sleep(pause)
            await used.session.report_progress(round(time.monotonic() - began, 3), message=f"{tool}: at work")

    reporting = asyncio.create_task(report())
    try:
        yield
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)


def _result(text: str, found: Json, is_error: bool = False) -> types.CallToolResult:
    content: list[Any] = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=content, structured_content=dict(found), is_error=is_error)


SERVER: Server[Any] = Server(
    "almanac",
    version=version("almanac"),
    title="Almanac",
    instructions=INSTRUCTIONS,
    get_tool_input_schema=_schema,
    on_list_tools=_list,
    on_call_tool=_call,
)


class Exchange(Response):
    """The response to one request with this body, which was read before: what is wrong with it on its way is told by
    this gateway, as everywhere else."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._given = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = [{"type": "http.request", "body": self._given, "more_body": False}]

        async def again() -> Message:
            return messages.pop() if messages else await receive()

        manager = StreamableHTTPSessionManager(
            SERVER,
            json_response=not self._wants_progress(scope),
            stateless=True,
            max_request_body_size=len(self._given) + 1,
        )
        async with manager.run():
            await manager.handle_request(scope, again, send)

    def _wants_progress(self, scope: Scope) -> bool:
        """Whether the client asks to hear of progress, and can: it gets events then, else one JSON object."""
        accepted = dict(scope["headers"]).get(b"accept", b"")
        return b"text/event-stream" in accepted and b'"progressToken"' in self._given
