"""/v1/admin/profiles: what tenants and users are served with."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query, Request
from pydantic import Field, StringConstraints

from services.catalog.profiles import Profile, set_profile
from services.common.moment import format_instant, now, parse_known_at
from services.common.nodes.features import PROFILES
from services.gateway.bodies import Instant, Strict, documented, read_json
from services.gateway.broker import FAILURES
from services.gateway.caller import Managing
from services.gateway.context import Using
from services.gateway.refusals import refuses
from services.gateway.routes.keys import OfTenant, Tenant, reach
from services.orchestrator.graph.profile import find_profile

router = APIRouter(prefix="/v1/admin/profiles", tags=["profiles"])

_USER = r"^[A-Za-z0-9@._-]*$"
User = Annotated[str, StringConstraints(max_length=128, pattern=_USER)]
Quota = Annotated[int, Field(ge=0, le=2**62)]

log = structlog.get_logger()


class ProfileRequest(Strict):
    """The whole profile of a user, or of the tenant where `user` is empty; what is left out is not set."""

    tenant: Tenant | None = None
    user: User = ""
    plan: Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f]*$")] = ""
    locale: Annotated[str, StringConstraints(pattern=r"^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$", max_length=35)] = ""
    adapter: Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f]*$")] = ""
    questions_per_day: Quota = 0
    tokens_per_day: Quota = 0


_PROFILE = {"user": "ada@example.org", "plan": "free", "locale": "en-GB", "questions_per_day": 200}


@router.post("", openapi_extra=documented(ProfileRequest, _PROFILE))
async def replace(request: Request, using: Using, caller: Managing) -> dict[str, Any]:
    """Record a profile; it holds for what is asked from its record time on. Only the operator sets a tenant's own."""
    body = await read_json(request, ProfileRequest, using.settings.max_body_bytes)
    tenant = reach(using, caller, body.tenant) or caller.tenant
    if not body.user:
        caller.require_operator(using.settings.tenant)
    profile = Profile(**body.model_dump(exclude={"tenant", "user"}))
    recorded = await using.catalog.writing(partial(set_profile, tenant=tenant, user=body.user, profile=profile))
    try:
        await using.broker.send_advance(tenant, PROFILES)
    except FAILURES as failure:
        log.warning("advance_not_queued", collection=PROFILES, reason=str(failure))
    return {"tenant": tenant, "user": body.user, "profile": asdict(profile), "recorded_at": format_instant(recorded)}


@router.get("", responses=refuses(504))
async def show(
    using: Using,
    caller: Managing,
    tenant: OfTenant = None,
    user: Annotated[str, Query(max_length=128, pattern=_USER)] = "",
    known_at: Instant | None = None,
) -> dict[str, Any]:
    """What a question would be served with: the user's profile over the tenant's, as on record at `known_at`."""
    of, clock = reach(using, caller, tenant) or caller.tenant, now()
    at = parse_known_at(known_at, clock)
    found = await find_profile(using.nodes, of, user, clock if at is None else at)
    return {"tenant": of, "user": user, "profile": asdict(found)}
