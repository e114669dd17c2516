"""/healthz, /readyz and /metrics: whether the gateway lives, whether it can answer, and what it has done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from services.common.metrics import REGISTRY
from services.common.rpc.client import healthy
from services.gateway.context import Context, Using
from services.gateway.problems import RETRY_SECONDS

router = APIRouter(tags=["health"])

NODES = ("encoder", "retriever", "features", "generator")
NEEDED = ("catalog", "encoder", "retriever", "features")
"""Without one of these nothing can be answered well; without the rest answers are degraded."""

_PROBE_SECONDS = 0.6
"""Together with the answer's way this stays below the second that probes commonly wait."""

_READY = {
    "type": "object",
    "required": ["ready", "components"],
    "properties": {
        "ready": {"type": "boolean"},
        "components": {"type": "object", "additionalProperties": {"type": "boolean"}},
    },
}
_SAID: dict[int | str, dict[str, Any]] = {
    200: {"description": "It can.", "content": {"application/json": {"schema": _READY}}},
    503: {"description": "It cannot.", "content": {"application/json": {"schema": _READY}}},
}


@router.get("/healthz")
async def alive() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz", responses=_SAID)
async def ready(request: Request, using: Using) -> JSONResponse:
    """Whether the gateway can answer and has not been told to stop, and which components answer."""
    probes: dict[str, Awaitable[bool]] = {
        "catalog": asyncio.to_thread(_catalog_answers, using),
        "broker": using.broker.alive(),
        **{node: healthy(getattr(using.settings, f"{node}_address"), _PROBE_SECONDS) for node in NODES},
        "worker": using.broker.worker_alive(),
    }
    found = await asyncio.gather(*(_in_time(probe) for probe in probes.values()))
    components = dict(zip(probes, found, strict=True))
    is_ready = all(components[name] for name in NEEDED) and not request.app.state.draining
    told = {"ready": is_ready, "components": components}
    return JSONResponse(told) if is_ready else JSONResponse(told, 503, {"Retry-After": str(RETRY_SECONDS)})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(using: Using) -> Response:
    return Response(using.metrics.exposition() + generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _in_time(probe: Awaitable[bool]) -> bool:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            return await probe
    except TimeoutError:
        return False


def _catalog_answers(context: Context) -> bool:
    try:
        with context.catalog.read() as tx:
            return bool(tx.execute(text("SELECT 1")).scalar_one() == 1)
    except SQLAlchemyError:
        return False
