"""LoRA adapters: whose they are, and what is asked of an engine that has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.errors import Conflict, ModelNotFound
from services.common.nodes.generator import Adapter


class AdapterEntry(BaseModel):
    """One adapter of the settings; a bare string is its source, for all tenants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1)
    tenants: frozenset[str] = frozenset()
    pinned: bool = False

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    def serves(self, tenant: str) -> bool:
        return not self.tenants or tenant in self.tenants


def names_for(tenant: str, entries: Mapping[str, AdapterEntry]) -> list[str]:
    """The adapters that the tenant may name, as listed in the settings."""
    return [name for name, entry in entries.items() if entry.serves(tenant)]


def check(tenant: str, name: str, entries: Mapping[str, AdapterEntry]) -> None:
    """Raises ModelNotFound for an adapter there is none of and, in the same words, for another tenant's."""
    allowed = names_for(tenant, entries)
    if name not in allowed:
        raise ModelNotFound(f"no adapter {name!r} is served; there are: {', '.join(allowed) or 'none'}")


class Adapters(Protocol):
    """What an engine holds of its adapters."""

    def show(self, name: str) -> Adapter: ...

    async def load(self, name: str, pinned: bool = False) -> None: ...

    async def unload(self, name: str) -> None: ...

    async def follow(self) -> None:
        """Load and unload as the policy says, until cancelled; returns where there is nothing to do."""
        ...


class Permanent:
    """Adapters that an engine holds from its start to its end."""

    def show(self, name: str) -> Adapter:
        return Adapter(name, loaded=True, pinned=True)

    async def load(self, name: str, pinned: bool = False) -> None:
        pass

    async def unload(self, name: str) -> None:
        raise Conflict(f"the engine holds adapter {name!r} as long as it runs; take it from the settings and restart")

    async def follow(self) -> None:
        pass
