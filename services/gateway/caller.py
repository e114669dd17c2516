"""Who calls: tenant, user and scopes of a request, which its key alone decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes

from services.common.errors import Forbidden
from services.gateway.context import Using


class Scope(StrEnum):
    """What a key may be used for; none includes another."""

    ASK = "ask"
    INGEST = "ingest"
    ADMIN = "admin"


EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is. `user` is empty for the tenant's own keys, `key_id` for a local request without a key."""

    tenant: str
    user: str = ""
    key_id: str = ""
    scopes: frozenset[Scope] = EVERYTHING

    def require(self, *scopes: Scope | str) -> None:
        """Raises Forbidden, naming what the key lacks."""
        lacking = sorted(set(scopes) - self.scopes)
        if lacking:
            raise Forbidden(f"the key lacks the scope {lacking[0]}; use one that has it, or have one made")


_BEARER = HTTPBearer(auto_error=False, description="A key of `almanac keys create`.")


async def authenticate(request: Request, using: Using, _: Annotated[object, Security(_BEARER)]) -> Caller:
    """The caller of a request. Tests put another in its place by `app.dependency_overrides`."""
    return Caller(using.settings.tenant)


async def authorize(needed: SecurityScopes, caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
    """The caller, who has the scopes that the route asks for. Raises Forbidden."""
    caller.require(*needed.scopes)
    return caller


Asking = Annotated[Caller, Security(authorize, scopes=["ask"])]
"""The caller, as a route asks for it that reads, searches or answers."""

Ingesting = Annotated[Caller, Security(authorize, scopes=["ingest"])]
"""The caller, as a route asks for it that changes what a collection holds, or shows how far that is."""

Administering = Annotated[Caller, Security(authorize, scopes=["admin"])]
"""The caller, as a route asks for it that governs the stack, or destroys."""
