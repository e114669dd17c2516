"""What a key says of whoever calls: tenant, user and scopes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.common.errors import Forbidden
from services.gateway.keyring import CHALLENGE


class Scope(StrEnum):
    """What a key may be used for; none includes another."""

    ASK = "ask"
    INGEST = "ingest"
    ADMIN = "admin"


EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is. `user` is empty for the tenant's own keys, `key_id` for a local request without a key.

    told: fields of the response, up to its beginning.
    """

    tenant: str
    user: str = ""
    key_id: str = ""
    scopes: frozenset[Scope] = EVERYTHING
    told: dict[str, str] = field(default_factory=dict, compare=False)

    def tell(self, fields: Mapping[str, str]) -> None:
        """Add fields to the response; lists in the order in which they are told."""
        for name, value in fields.items():
            self.told[name] = f"{self.told[name]}, {value}" if name in self.told else value

    def require(self, *scopes: Scope | str) -> None:
        """Raises Forbidden, naming what the key lacks."""
        lacking = sorted(set(scopes) - self.scopes)
        if lacking:
            challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{" ".join(lacking)}"'
            raise Forbidden(
                f"the key lacks the scope {lacking[0]}; use one that has it, or have one made",
                {"WWW-Authenticate": challenge},
            )

    def require_operator(self, operator: str) -> None:
        """Raises Forbidden where the key is another tenant's than the operator's, who runs the stack for all."""
        if self.tenant != operator:
            raise Forbidden(f"this concerns every tenant; it needs a key of the tenant {operator!r}")
