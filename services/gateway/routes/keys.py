"""/v1/admin/keys and /v1/admin/tenants: keys made, shown without their secrets, rotated and revoked."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field, StringConstraints

from services.catalog import keys
from services.common.errors import Forbidden, InvalidRequest
from services.common.moment import now, parse_instant
from services.gateway.bodies import Collection, Instant, Strict, documented, read_json
from services.gateway.caller import Administering, Caller, Managing, Scope
from services.gateway.context import Context, Using
from services.gateway.parameters import KeyId
from services.gateway.refusals import refuses
from services.orchestrator.graph.answer import iso

router = APIRouter(prefix="/v1/admin", tags=["keys"])

Tenant = Annotated[Collection, StringConstraints(max_length=64)]
OfTenant = Annotated[Tenant | None, Query(description="Default: every tenant that the key may see.")]


class KeyRequest(Strict):
    """A tenant is made by its first key. `user`: whose profile the key's questions use."""

    tenant: Tenant | None = None
    user: Annotated[str, StringConstraints(max_length=128, pattern=r"^[A-Za-z0-9@._-]*$")] = ""
    name: Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f]*$")] = ""
    scopes: list[Scope] = Field([Scope.ASK], min_length=1)
    expires_at: Instant | None = None


class RotateRequest(Strict):
    grace_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)] = 3_600


def reach(context: Context, caller: Caller, tenant: str | None) -> str | None:
    """The tenant that a request is about: its own, or for the operator any, or None for all. Raises Forbidden."""
    if caller.tenant == context.settings.tenant:
        return tenant
    if tenant not in (None, caller.tenant):
        raise Forbidden(f"the key is of tenant {caller.tenant!r} and reaches no other")
    return caller.tenant


@router.get("/keys")
async def show_all(using: Using, caller: Managing, tenant: OfTenant = None) -> dict[str, Any]:
    """The keys, without their secrets: what they may, until when, and when they were last used, to the minute."""
    found = await using.catalog.reading(lambda tx: keys.listing(tx, reach(using, caller, tenant)))
    return {"keys": [_key_json(key) for key in found]}


@router.post(
    "/keys", status_code=201, openapi_extra=documented(KeyRequest, {"scopes": ["ask", "ingest"], "name": "reader"})
)
async def create(request: Request, using: Using, caller: Managing) -> dict[str, Any]:
    """A new key. Its text is shown here, once, and kept nowhere."""
    body = await read_json(request, KeyRequest, using.settings.max_body_bytes)
    tenant = reach(using, caller, body.tenant) or caller.tenant
    expires = _expiry(body.expires_at)
    scopes = [scope.value for scope in body.scopes]
    made, text = await using.catalog.writing(
        lambda tx: keys.create(tx, tenant, scopes, user=body.user, name=body.name, expires_at=expires)
    )
    return _told(request, using, made, text)


@router.post(
    "/keys/{key_id}/rotate",
    status_code=201,
    openapi_extra=documented(RotateRequest, {"grace_seconds": 600}),
    responses=refuses(404, 409),
)
async def rotate(key_id: KeyId, request: Request, using: Using, caller: Managing) -> dict[str, Any]:
    """A new key like the old one, which stays valid for `grace_seconds` more."""
    body = await read_json(request, RotateRequest, using.settings.max_body_bytes)
    of, grace = reach(using, caller, None), body.grace_seconds * 1_000_000
    made, text = await using.catalog.writing(lambda tx: keys.rotate(tx, of, key_id, grace))
    return _told(request, using, made, text, rotates=key_id)


@router.delete("/keys/{key_id}", responses=refuses(404))
async def revoke(key_id: KeyId, using: Using, caller: Managing) -> dict[str, Any]:
    """End a key, on every gateway within two seconds."""
    found = await using.catalog.writing(lambda tx: keys.revoke(tx, reach(using, caller, None), key_id))
    using.keyring.forget()
    return _key_json(found)


@router.get("/tenants")
async def tenants(using: Using, caller: Administering) -> dict[str, Any]:
    """Every tenant that has a key or a collection."""
    return {"tenants": [{"name": name} for name in sorted(await using.catalog.reading(keys.tenants))]}


def _expiry(written: str | None) -> int | None:
    expires = None if written is None else parse_instant(written, "expires_at")
    if expires is not None and expires <= now():
        raise InvalidRequest("expires_at: it is past")
    return expires


def _told(request: Request, context: Context, made: keys.Key, text: str, **more: str) -> dict[str, Any]:
    context.keyring.forget()
    request.state.entry.note(made.key_id, tenant=made.tenant, scopes=list(made.scopes), **more)
    return {"key": text, **_key_json(made)}


def _key_json(key: keys.Key) -> dict[str, Any]:
    times = ("created_at", "expires_at", "revoked_at", "used_at")
    return {
        "id": key.key_id,
        "tenant": key.tenant,
        "user": key.user,
        "name": key.name,
        "scopes": list(key.scopes),
        "valid": key.valid(now()),
        **{name: None if getattr(key, name) is None else iso(getattr(key, name)) for name in times},
    }
