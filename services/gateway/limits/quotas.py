"""What the profiles of tenants and users allow a day, as one gateway knows it: remembered for seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from limits import RateLimitItemPerDay

from services.catalog.engine import Database
from services.catalog.profiles import Profile, held
from services.gateway.limits.policies import Policy

LIFE_SECONDS = 10.0
"""How long a profile is remembered: a new one holds on every gateway within this time."""

_MOST = 10_000
_FIELDS = {"questions": "questions_per_day", "tokens": "tokens_per_day"}

Counted = Literal["questions", "tokens"]


class Quotas:
    """Policies beside those of the settings: a tenant's for all that it asks, a user's for what its keys ask."""

    def __init__(self, catalog: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog, self._clock = catalog, clock
        self._known: dict[tuple[str, str], tuple[float, Profile]] = {}

    async def of(self, tenant: str, user: str, counted: Counted) -> tuple[Policy, ...]:
        """The user's before its tenant's; none where no quota is set."""
        holders = [("user", user, f"{tenant}/{user}")] if user else []
        policies = []
        for kind, name, holder in [*holders, ("tenant", "", tenant)]:
            most = getattr(await self._profile(tenant, name), _FIELDS[counted])
            if most:
                policies.append(Policy(f"{kind}-{counted}-daily", RateLimitItemPerDay(most), daily=True, holder=holder))
        return tuple(policies)

    async def _profile(self, tenant: str, user: str) -> Profile:
        until, found = self._known.get((tenant, user), (0.0, Profile()))
        if until > self._clock():
            return found
        found = await self._catalog.reading(lambda tx: held(tx, tenant, user))
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[tenant, user] = self._clock() + LIFE_SECONDS, found
        return found
