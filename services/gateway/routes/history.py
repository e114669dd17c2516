"""/v1/collections/{collection}/changes: when a collection changed, for whoever draws its history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import StringConstraints

from services.catalog import history
from services.common.moment import format_instant, now, parse_known_at
from services.gateway.caller import Asking
from services.gateway.context import Using
from services.gateway.parameters import Named
from services.gateway.refusals import refuses

router = APIRouter(tags=["collections"])

Written = Annotated[str | None, StringConstraints(max_length=64), Query()]


@router.get("/v1/collections/{collection}/changes", responses=refuses(404))
async def changes(collection: Named, using: Using, caller: Asking, known_at: Written = None) -> dict[str, Any]:
    """The instants at which something in the collection began or ended being valid, or being on record.

    Valid time as it was on record at `known_at`. Neighbours share a tick where there are more than 500.
    """
    known = parse_known_at(known_at, now())

    def read() -> history.Changes:
        with using.catalog.read() as tx:
            return history.changes(tx, caller.tenant, collection, known)

    found = await asyncio.to_thread(read)
    return {"valid": _ticks_json(found.valid), "recorded": _ticks_json(found.recorded)}


def _ticks_json(ticks: Sequence[history.Tick]) -> list[dict[str, Any]]:
    return [
        {"first": format_instant(tick.first), "at": format_instant(tick.at), "changes": tick.changes} for tick in ticks
    ]
