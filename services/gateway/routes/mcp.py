"""/mcp: the tools for models, over the Model Context Protocol's streamable HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.gateway.bodies import read_body
from services.gateway.caller import Asking
from services.gateway.context import Using

router = APIRouter(tags=["mcp"])

_MESSAGE = {"type": "object", "required": ["jsonrpc"], "properties": {"jsonrpc": {"const": "2.0"}}}
_JSON: dict[str, Any] = {"application/json": {"schema": _MESSAGE}}
_EXAMPLES = {"example": {"value": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}}}
_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _MESSAGE, "examples": _EXAMPLES}}}
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The message's answer; a tool's failure is in it. As events where the client asks for progress.",
        "content": {**_JSON, "text/event-stream": {"schema": {"type": "string"}}},
    },
    202: {"description": "A notification was taken note of."},
    400: {"description": "This is no message of the protocol, or not one of its version.", "content": _JSON},
    404: {"description": "There is no such method.", "content": _JSON},
    406: {"description": "The client does not accept application/json."},
}


@router.post("/mcp", response_class=Response, responses=_RESPONSES, openapi_extra=_BODY)
async def exchange(request: Request, using: Using, caller: Asking) -> Response:
    """One JSON-RPC message of the Model Context Protocol: tools that ask and search. A failed tool says why."""
    body = await read_body(request, using.settings.max_body_bytes)
    made: Response = await asyncio.to_thread(_exchange, body)
    return made


def _exchange(body: bytes) -> Any:
    """In a thread: the first one imports the protocol, which takes its time."""
    from services.gateway.mcp.server import Exchange

    return Exchange(body)
