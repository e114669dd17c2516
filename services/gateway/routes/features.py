"""/v1/admin/features: definitions, the online store, training sets, and whether all is well."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field, StringConstraints

from services.catalog.reading import collection as collection_row
from services.common.moment import OPEN_START, format_instant, parse_instant
from services.common.nodes.features import ViewState
from services.gateway.bodies import Collection, Instant, Strict, documented, read_json
from services.gateway.caller import Administering, Managing
from services.gateway.checking import check
from services.gateway.context import Using
from services.gateway.parameters import InCollection
from services.gateway.refusals import refuses

router = APIRouter(prefix="/v1/admin/features", tags=["features"])

View = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")]
Hours = Annotated[int, Query(ge=1, le=24 * 366)]


class ApplyRequest(Strict):
    dry_run: bool = False


class MaterializeRequest(Strict):
    """Without a view: all of them."""

    view: View | None = None


class Wanted(Strict):
    """An entity, by its id in the collection, and the instant at which it is to be known as it was known then."""

    entity: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    at: Instant


class TrainingRequest(Strict):
    view: View
    collection: Collection = "default"
    rows: Annotated[list[Wanted], Field(min_length=1, max_length=20_000)]


@router.get("", responses=refuses(504))
async def show_all(using: Using, caller: Managing) -> dict[str, Any]:
    """Every view: its fields, its size over all tenants, and up to when it holds the record of each collection."""
    return {"views": [_view(state) for state in await using.nodes.features.describe(caller.tenant)]}


@router.post("/apply", openapi_extra=documented(ApplyRequest, {"dry_run": True}), responses=refuses(409, 504))
async def apply(request: Request, using: Using, caller: Administering) -> dict[str, Any]:
    """Apply the definitions in `feature_repo`, or only say what that would do. Refused where it breaks history."""
    body = await read_json(request, ApplyRequest, using.settings.max_body_bytes)
    return {"changes": await using.nodes.features.apply(body.dry_run), "applied": not body.dry_run}


@router.post(
    "/materialize", openapi_extra=documented(MaterializeRequest, {"view": "documents"}), responses=refuses(404, 504)
)
async def materialize(request: Request, using: Using, caller: Administering) -> dict[str, Any]:
    """Bring the online store up to now."""
    body = await read_json(request, MaterializeRequest, using.settings.max_body_bytes)
    node = using.nodes.features
    names = [body.view] if body.view else [state.name for state in await node.describe(caller.tenant)]
    return {"materialized": {name: format_instant(await node.materialize(name)) for name in names}}


_ROWS = {"view": "documents", "collection": "notes", "rows": [{"entity": "port/harbour", "at": "1920-01-01"}]}


@router.post("/training", openapi_extra=documented(TrainingRequest, _ROWS), responses=refuses(404, 504))
async def training(request: Request, using: Using, caller: Managing) -> dict[str, Any]:
    """For each entity and instant the values that held then, as known then, by Feast's historical join."""
    body = await read_json(request, TrainingRequest, using.settings.max_body_bytes)
    await using.catalog.reading(lambda tx: collection_row(tx, caller.tenant, body.collection))
    asked = [(row.entity, parse_instant(row.at, "at")) for row in body.rows]
    found = await using.nodes.features.training(caller.tenant, body.collection, body.view, asked)
    rows = [
        {"entity": wanted.entity, "at": wanted.at, "found": row.found, "values": dict(row.values)}
        for wanted, row in zip(body.rows, found, strict=True)
    ]
    return {"view": body.view, "collection": body.collection, "rows": rows}


@router.get("/check", responses=refuses(404, 504))
async def check_all(
    using: Using,
    caller: Managing,
    collection: InCollection = "default",
    window_hours: Hours = 24,
    reference_hours: Hours = 24 * 30,
) -> dict[str, Any]:
    """Freshness of views, soundness of values, and drift of questions and scores: `holds`, and what does not."""
    await using.catalog.reading(lambda tx: collection_row(tx, caller.tenant, collection))
    hour = 3_600_000_000
    found = await check(using, caller.tenant, collection, window_hours * hour, reference_hours * hour)
    return found.details


def _view(state: ViewState) -> dict[str, Any]:
    return {
        "name": state.name,
        "ttl_seconds": state.ttl / 1e6,
        "fields": {field.name: field.type for field in state.fields},
        "rows": state.rows,
        "bytes": state.bytes,
        "watermarks": {name: _instant(mark) for name, mark in sorted(state.watermarks.items())},
        "materialized": _instant(state.materialized),
    }


def _instant(instant: int) -> str | None:
    return None if instant == OPEN_START else format_instant(instant)
