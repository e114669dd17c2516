"""What is limited, as the settings say it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from limits import RateLimitItem, RateLimitItemPerDay, parse


class Limits(Protocol):
    """The settings that say it. A quota reads like `600/minute`; an empty one, or 0 a day, limits nothing."""

    @property
    def limit_key_requests(self) -> str: ...
    @property
    def limit_tenant_requests(self) -> str: ...
    @property
    def limit_key_tokens(self) -> str: ...
    @property
    def limit_tenant_tokens(self) -> str: ...
    @property
    def quota_key_requests(self) -> int: ...
    @property
    def quota_tenant_requests(self) -> int: ...
    @property
    def quota_key_tokens(self) -> int: ...
    @property
    def quota_tenant_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """A quota of one kind, `key` or `tenant`, for each of it; `daily`: of a calendar day, UTC.

    holder: whose it is, where that is neither the key nor the tenant of whoever asks.
    """

    name: str
    quota: RateLimitItem
    daily: bool = False
    holder: str = ""

    def who(self, tenant: str, key_id: str) -> str:
        """Whose it is. Names of tenants hold no slash, so none is another's."""
        holder = self.holder or (holder_of(tenant, key_id) if self.name.startswith("key") else tenant)
        return f"{self.name}/{holder}" + (f"/{time.strftime('%Y-%m-%d', time.gmtime())}" if self.daily else "")

    def stated(self) -> str:
        """As the field `RateLimit-Policy` says it (draft-ietf-httpapi-ratelimit-headers-10)."""
        return f'"{self.name}";q={self.quota.amount};w={self.quota.get_expiry()}'


def holder_of(tenant: str, key_id: str) -> str:
    return f"{tenant}/{key_id or 'local'}"


def policies(limits: Limits, of: str) -> tuple[Policy, ...]:
    """Those of `requests` or of `tokens`, the key's own before its tenant's."""
    found: list[Policy] = []
    for kind in ("key", "tenant"):
        rate, daily = getattr(limits, f"limit_{kind}_{of}"), getattr(limits, f"quota_{kind}_{of}")
        if rate:
            found.append(Policy(f"{kind}-{of}", parse(rate)))
        if daily:
            found.append(Policy(f"{kind}-{of}-daily", RateLimitItemPerDay(daily), daily=True))
    return tuple(found)


def seconds_to_midnight() -> float:
    """Until the next calendar day, UTC."""
    return 86_400 - time.time() % 86_400


def checked(text: str) -> str:
    """A quota as it is written. Raises ValueError, saying how one is."""
    if not text:
        return text
    try:
        parse(text)
    except ValueError:
        raise ValueError(f"{text!r} is no quota; write one like 600/minute or 10/5 seconds") from None
    return text
