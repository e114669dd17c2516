"""Who calls, as a route asks for it: tenant, user and scopes, which the request's key alone decides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes

from services.catalog.keys import PREFIX
from services.common.errors import Unauthorized
from services.gateway.auditing import audited
from services.gateway.context import Context, Using
from services.gateway.identity import Caller, Scope
from services.gateway.keyring import CHALLENGE
from services.gateway.locality import is_loopback, require_local

__all__ = [
    "Administering",
    "Asking",
    "Caller",
    "Ingesting",
    "Managing",
    "Queueing",
    "Scope",
    "Streaming",
    "authenticate",
    "identify",
]


async def identify(request: Request, context: Context) -> Caller:
    """The caller of a request, which is counted once. Raises Unauthorized, Forbidden, RateLimited."""
    known: Caller | None = getattr(request.state, "caller", None)
    if known is None:
        known = await _caller(request, context)
        known.tell(await context.limiter.admit(known.tenant, known.key_id))
        request.state.told = known.told
        request.state.caller = known
    return known


async def _caller(request: Request, context: Context) -> Caller:
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    given = text.strip() if kind.lower() == "bearer" else ""
    if given.startswith(f"{PREFIX}_") or await _needs_key(context):
        if not given:
            raise Unauthorized("send a key: `Authorization: Bearer alm_…`", {"WWW-Authenticate": CHALLENGE})
        key = await context.keyring.verify(given)
        return Caller(key.tenant, key.user, key.key_id, frozenset(scope for scope in Scope if scope in key.scopes))
    require_local(request)
    return Caller(context.settings.tenant)


async def _needs_key(context: Context) -> bool:
    """Always, but on loopback as long as nobody has made one; any other token is passed over then."""
    settings = context.settings
    return settings.require_key or not is_loopback(settings.host) or await context.keyring.any_made()


_BEARER = HTTPBearer(auto_error=False, description="A key of `almanac keys create`.")


async def authenticate(request: Request, using: Using, _: Annotated[object, Security(_BEARER)]) -> Caller:
    """The caller of a request. Tests put another in its place by `app.dependency_overrides`."""
    return await identify(request, using)


async def authorize(needed: SecurityScopes, caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
    """The caller, who has the scopes that the route asks for. Raises Forbidden."""
    caller.require(*needed.scopes)
    return caller


Asking = Annotated[Caller, Security(authorize, scopes=[Scope.ASK.value])]
"""The caller, as a route asks for it that reads, searches or answers."""

Ingesting = Annotated[Caller, Security(authorize, scopes=[Scope.INGEST.value])]
"""The caller, as a route asks for it that changes what a collection holds, or shows how far that is."""


Hold = Callable[[], Awaitable[None]]


async def hold_stream(using: Using, caller: Annotated[Caller, Depends(authenticate)]) -> AsyncIterator[Hold]:
    async with AsyncExitStack() as held:
        yield lambda: held.enter_async_context(using.limiter.stream(caller.tenant, caller.key_id))


async def hold_answer(using: Using, caller: Annotated[Caller, Depends(authenticate)]) -> AsyncIterator[Hold]:
    async with AsyncExitStack() as held:
        yield lambda: held.enter_async_context(using.limiter.answer(caller.tenant))


Queueing = Annotated[Hold, Depends(hold_answer, scope="request")]
"""What a route calls before it has a question answered: a place among those in flight, until the response has ended.

Raises Overloaded, RateLimited.
"""

Streaming = Annotated[Hold, Depends(hold_stream, scope="request")]
"""What a route calls before it answers with a stream: one of those the key may have, until the response has ended.

Raises RateLimited.
"""

_Admin = Annotated[Caller, Security(authorize, scopes=[Scope.ADMIN.value])]


async def manage(request: Request, using: Using, caller: _Admin) -> AsyncIterator[Caller]:
    async with audited(request, using, caller):
        yield caller


async def govern(request: Request, using: Using, caller: _Admin) -> AsyncIterator[Caller]:
    caller.require_operator(using.settings.tenant)
    async with audited(request, using, caller):
        yield caller


Managing = Annotated[Caller, Depends(manage, scope="function")]
"""The caller, as a route asks for it that governs or destroys what is the caller's tenant's. On record."""

Administering = Annotated[Caller, Depends(govern, scope="function")]
"""The caller, as a route asks for it that governs what all tenants share: only the operator may. On record."""
