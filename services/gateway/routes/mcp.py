"""/mcp: the tools for models, over the Model Context Protocol's streamable HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from services.gateway.caller import Asking
from services.gateway.context import Using

router = APIRouter(tags=["mcp"])

_MESSAGE = {"type": "object", "required": ["jsonrpc"], "properties": {"jsonrpc": {"const": "2.0"}}}
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _MESSAGE}}}}


@router.post("/mcp", response_class=Response, openapi_extra=_BODY)
async def exchange(using: Using, caller: Asking) -> Response:
    """One JSON-RPC message of the Model Context Protocol: tools that ask and search. A failed tool says why."""
    made: Response = await asyncio.to_thread(_exchange, using.settings.max_body_bytes)
    return made


def _exchange(longest: int) -> Any:
    """In a thread: the first one imports the protocol, which takes its time."""
    from services.gateway.mcp.server import Exchange

    return Exchange(longest)
