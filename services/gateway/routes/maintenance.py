"""What removes or rebuilds: documents erased everywhere, indexes rebuilt from the catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import Connection

from services.catalog import erasing, jobs
from services.catalog.reading import collection as collection_row
from services.gateway.caller import Administering, Managing
from services.gateway.context import Context, Using
from services.gateway.parameters import DocId, InCollection
from services.gateway.refusals import refuses
from services.gateway.shapes import Taken, gives
from services.gateway.uploads import queued

router = APIRouter(tags=["maintenance"])


@router.post("/v1/documents/{doc_id:path}/erase", status_code=202, responses={**refuses(404, 409), **gives(Taken, 202)})
async def erase(doc_id: DocId, using: Using, caller: Managing, collection: InCollection = "default") -> JSONResponse:
    """Remove a document everywhere, at every moment, for good: a job says how far that is.

    Text, vectors, features, answers that quote it and uploads that held it; other documents stay as they are. Refused
    while a job may bring the document back.
    """

    def ask(tx: Connection) -> jobs.Job:
        collection_row(tx, caller.tenant, collection)
        return erasing.ask(tx, caller.tenant, collection, doc_id)

    return await _queue(using, ask)


@router.post("/v1/admin/reindex/rebuild", status_code=202, responses={**refuses(409), **gives(Taken, 202)})
async def rebuild(using: Using, caller: Administering) -> JSONResponse:
    """Build index and features anew from catalog and vector files alone; questions are answered meanwhile."""
    return await _queue(using, lambda tx: erasing.ask_rebuild(tx, caller.tenant))


async def _queue(context: Context, ask: Callable[[Connection], jobs.Job]) -> JSONResponse:
    def within() -> jobs.Job:
        with context.catalog.write() as tx:
            return ask(tx)

    job: dict[str, Any] = await queued(context, await asyncio.to_thread(within))
    return JSONResponse({"job": job}, 202, {"Location": f"/v1/jobs/{job['id']}"})
