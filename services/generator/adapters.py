"""LoRA adapters: whose they are, and which of them an engine holds."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.errors import Conflict, ModelNotFound


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

    def loaded(self) -> Mapping[str, bool]:
        """Those it holds by name, and whether they are pinned."""
        ...

    async def load(self, name: str, pinned: bool = False) -> None: ...

    async def unload(self, name: str) -> None: ...


class Permanent:
    """Adapters that an engine holds from its start to its end."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def loaded(self) -> Mapping[str, bool]:
        return dict.fromkeys(self._names, True)

    async def load(self, name: str, pinned: bool = False) -> None:
        pass

    async def unload(self, name: str) -> None:
        raise Conflict(f"the engine holds adapter {name!r} as long as it runs; take it from the settings and restart")


Act = Callable[[str], Awaitable[None]]


async def _nothing(name: str) -> None:
    pass


class OnDemand:
    """Adapters loaded once each, however many ask at once, and kept until they are unloaded; never while in use.

    At most `pins` are pinned: the engine needs a place for the others.
    """

    def __init__(self, load: Act = _nothing, unload: Act = _nothing, pin: Act = _nothing, pins: int = 1) -> None:
        self._load, self._unload, self._pin, self._most = load, unload, pin, pins
        self._pinned: dict[str, bool] = {}
        self._uses: Counter[str] = Counter()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def loaded(self) -> Mapping[str, bool]:
        return dict(self._pinned)

    async def load(self, name: str, pinned: bool = False) -> None:
        async with self._locks[name]:
            if name not in self._pinned:
                await self._load(name)
                self._pinned[name] = False
            if pinned and not self._pinned[name]:
                await self._fix(name)

    async def _fix(self, name: str) -> None:
        held = [other for other, pinned in self._pinned.items() if pinned]
        if len(held) >= self._most:
            raise Conflict(f"{len(held)} adapters are pinned, the most there may be; unload one: {', '.join(held)}")
        self._pinned[name] = True
        try:
            await self._pin(name)
        except BaseException:
            self._pinned[name] = False
            raise

    async def unload(self, name: str) -> None:
        async with self._locks[name]:
            if self._uses[name]:
                raise Conflict(f"adapter {name!r} is in use by {self._uses[name]} answers; try again when they end")
            if name in self._pinned:
                await self._unload(name)
                del self._pinned[name]

    @asynccontextmanager
    async def using(self, name: str) -> AsyncGenerator[None, None]:
        """Hold the adapter, if one is named, while an answer uses it."""
        if not name:
            yield
            return
        self._uses[name] += 1
        try:
            await self.load(name)
            yield
        finally:
            self._uses[name] -= 1
