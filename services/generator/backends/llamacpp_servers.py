"""llama.cpp's server, made anew for what is to be in memory: it takes adapters only at its start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from services.common.errors import Unavailable
from services.generator.residency.holding import MODEL

log = structlog.get_logger()

_MOMENT_SECONDS = 0.2
"""How long an unload waits for a load that comes with it, to be one new server with that."""


@dataclass(slots=True)
class Loaded:
    """A server with these adapters, in the order of their ids. answers: how many it decodes."""

    server: Any
    adapters: tuple[str, ...]
    answers: int = 0


class Servers:
    """One server for new answers; each answer ends on the one that it began on, which then goes.

    While one stands in for the other both take memory: the weights once, for they are mapped, the cache twice. `open`
    makes a server with these adapters, in a thread.
    """

    def __init__(self, open: Callable[[Sequence[str]], Any], first: Loaded | None = None) -> None:
        self._open, self._now = open, first
        self._names = frozenset() if first is None else frozenset((MODEL, *first.adapters))
        self._leaving: set[str] = set()
        self._shrinking: set[asyncio.Future[None]] = set()
        self._lock = asyncio.Lock()

    async def load(self, name: str) -> None:
        """Raises Unavailable where the engine does not take it."""
        self._leaving.discard(name)
        async with self._lock:
            try:
                await self._become((self._names | {name}) - self._leaving)
            except Exception as error:
                raise Unavailable(f"adapter {name!r} cannot be loaded: {error}") from error

    async def unload(self, name: str) -> None:
        """It is gone within a moment, and the time it takes to make a server without it."""
        self._leaving.add(name)
        shrinking = asyncio.ensure_future(self._shrink())
        self._shrinking.add(shrinking)
        shrinking.add_done_callback(self._shrinking.discard)

    async def _shrink(self) -> None:
        await asyncio.sleep(_MOMENT_SECONDS)
        async with self._lock:
            try:
                await self._become(self._names - self._leaving)
            except Exception as error:
                log.warning("adapters_kept", adapters=sorted(self._leaving), reason=str(error))

    async def _become(self, names: frozenset[str]) -> None:
        adapters = tuple(sorted(names - {MODEL}))
        if not names:
            self._replace(None)
        elif self._now is None or sorted(self._now.adapters) != list(adapters):
            self._replace(Loaded(await asyncio.to_thread(self._open, adapters), adapters))
        self._names = names
        self._leaving &= names

    def _replace(self, new: Loaded | None) -> None:
        old, self._now = self._now, new
        if old is not None and not old.answers:
            _close(old)

    def take(self) -> Loaded:
        """The server for an answer, until it is given back."""
        assert self._now is not None, "what answers is loaded first"
        self._now.answers += 1
        return self._now

    def give_back(self, loaded: Loaded) -> None:
        loaded.answers -= 1
        if not loaded.answers and loaded is not self._now:
            _close(loaded)

    async def close(self) -> None:
        for shrinking in self._shrinking:
            shrinking.cancel()
        self._replace(None)


def _close(loaded: Loaded) -> None:
    """Stop the engine, in a thread: that takes a while."""
    asyncio.get_running_loop().run_in_executor(None, _drop, loaded)


def _drop(loaded: Loaded) -> None:
    loaded.server = None
