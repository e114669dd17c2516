"""/v1/collections/…/sync/…: which files of a folder are in a collection, and the end of what it holds no more.

A folder's files go in as documents do, with a form field `sync` that names the folder.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints

from services.catalog import syncing
from services.gateway.bodies import Strict, documented, read_json
from services.gateway.caller import Ingesting
from services.gateway.context import Using
from services.gateway.parameters import Folder, Named

router = APIRouter(tags=["sync"])


class PruneRequest(Strict):
    """The files that lie in the folder no more."""

    removed: Annotated[list[Annotated[str, StringConstraints(max_length=512)]], Field(max_length=1_000)]


@router.get("/v1/collections/{collection}/sync/{source}")
async def show(collection: Named, source: Folder, using: Using, caller: Ingesting) -> dict[str, Any]:
    """The SHA-256 of each file taken in; `pending`: documents wait to be ended."""

    def within() -> dict[str, Any]:
        with using.catalog.read() as tx:
            files, pending = syncing.known(tx, _folder(caller.tenant, collection, source))
            return {"files": files, "pending": pending}

    return await asyncio.to_thread(within)


@router.post(
    "/v1/collections/{collection}/sync/{source}", openapi_extra=documented(PruneRequest, {"removed": ["old/menu.md"]})
)
async def prune(collection: Named, source: Folder, request: Request, using: Using, caller: Ingesting) -> dict[str, int]:
    """End the validity of every document that no file of the folder says any more; call it once the rest is in."""
    body = await read_json(request, PruneRequest, using.settings.max_body_bytes)

    def within() -> int:
        with using.catalog.write() as tx:
            return syncing.prune(tx, _folder(caller.tenant, collection, source), body.removed)

    return {"ended": await asyncio.to_thread(within)}


def _folder(tenant: str, collection: str, source: str) -> syncing.Folder:
    return syncing.Folder(tenant, collection, source)
