"""/v1/admin/audit and /v1/admin/usage: what administrators did, and what tenants used."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.catalog import audit, metering
from services.common.moment import format_instant, now
from services.gateway.caller import Managing
from services.gateway.context import Using
from services.gateway.routes.keys import OfTenant, reach
from services.gateway.shapes import UsageBody, gives
from services.orchestrator.graph.answer import iso

router = APIRouter(prefix="/v1/admin", tags=["usage"])


@router.get("/audit")
async def show_audit(
    using: Using, caller: Managing, limit: Annotated[int, Query(ge=1, le=1_000)] = 100, tenant: OfTenant = None
) -> dict[str, Any]:
    """The newest actions of administrators: who did what to which, and the outcome; none yet where it was cut off."""
    of = reach(using, caller, tenant)
    rows = await using.catalog.reading(lambda tx: audit.newest(tx, of, limit))
    return {"entries": [{**row._mapping, "created_at": iso(row.created_at)} for row in rows]}


@router.get("/usage", responses=gives(UsageBody))
async def show_usage(
    using: Using, caller: Managing, days: Annotated[int, Query(ge=1, le=3_660)] = 30, tenant: OfTenant = None
) -> dict[str, Any]:
    """Answers, what they cost and what the cache saved, and searches, by tenant and day (UTC), over the last days.

    Tokens are the prompts' and the answers', texts those that were encoded, and milliseconds the generator's.
    """
    of, today = reach(using, caller, tenant), now() // metering.DAY_US
    found = await using.catalog.reading(lambda tx: metering.by_day(tx, of, (today - days + 1) * metering.DAY_US))
    return {"usage": [{**asdict(used), "day": format_instant(used.day)[:10]} for used in found]}
