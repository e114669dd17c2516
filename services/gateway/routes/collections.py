"""/v1/collections: what there is."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter

from services.catalog.reading import CollectionInfo, list_collections
from services.gateway.caller import Asking
from services.gateway.context import Using
from services.orchestrator.graph.answer import iso

router = APIRouter(tags=["collections"])


@router.get("/v1/collections")
async def show_all(using: Using, caller: Asking) -> dict[str, Any]:
    """Every collection, how much it holds and up to when it is recorded."""

    def read() -> list[CollectionInfo]:
        with using.catalog.read() as tx:
            return list_collections(tx, caller.tenant)

    return {"collections": [_collection_json(info) for info in await asyncio.to_thread(read)]}


def _collection_json(info: CollectionInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "documents": info.documents,
        "passages": info.passages,
        "facts": info.facts,
        "recorded_to": iso(info.recorded_at),
    }
