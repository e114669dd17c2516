"""/v1/admin/adapters: the generator's LoRA adapters that a tenant may name, and which of them it holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import StrictBool

from services.common.nodes.generator import Adapter
from services.gateway.bodies import Strict, documented, read_json
from services.gateway.caller import Managing
from services.gateway.context import Using
from services.gateway.refusals import refuses

router = APIRouter(prefix="/v1/admin/adapters", tags=["adapters"])

Name = Annotated[str, Path(max_length=128, examples=["legal"])]


class LoadRequest(Strict):
    """A pinned adapter keeps its place on the device until it is unloaded."""

    pinned: StrictBool = False


@router.get("", responses=refuses(504))
async def show_all(using: Using, caller: Managing) -> dict[str, Any]:
    """The adapters that the tenant may name in `adapter`: whether the generator holds them, and since it started how
    often each was loaded, how many requests waited for that, and for how many seconds it was in memory."""
    return {"adapters": [asdict(one) for one in await using.nodes.generator.adapters(caller.tenant)]}


@router.put("/{name}", openapi_extra=documented(LoadRequest, {"pinned": True}), responses=refuses(404, 409, 504))
async def load(name: Name, request: Request, using: Using, caller: Managing) -> dict[str, Any]:
    """Load an adapter before it is asked for. One that is there stays; it is pinned if that is asked for."""
    body = await read_json(request, LoadRequest, using.settings.max_body_bytes)
    await using.nodes.generator.load(caller.tenant, name, body.pinned)
    held = {one.name: one for one in await using.nodes.generator.adapters(caller.tenant)}
    return asdict(held.get(name, Adapter(name)))


@router.delete("/{name}", responses=refuses(404, 409, 504))
async def unload(name: Name, using: Using, caller: Managing) -> dict[str, Any]:
    """Free an adapter's memory, pinned or not; asked for again, it is loaded again. A conflict while it is in use."""
    await using.nodes.generator.unload(caller.tenant, name)
    return asdict(Adapter(name))
