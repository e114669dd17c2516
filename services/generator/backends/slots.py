"""Who decodes and who waits, and which slot of the engine decodes which prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.common.nodes.generator import Chunk, Stats


class Turns:
    """So many at once, first come, first served; it counts those that run and wait, and the tokens they read."""

    def __init__(self, size: int) -> None:
        self._free = asyncio.Semaphore(size)
        self._size = size
        self.running = 0
        self.waiting = 0
        self._read = 0
        self._reused = 0

    async def take(self) -> None:
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1

    def give_back(self) -> None:
        self.running -= 1
        self._free.release()

    def count(self, chunk: Chunk) -> None:
        """Add up what was read, once it is final."""
        if chunk.finish_reason:
            self._read += chunk.prompt_tokens
            self._reused += chunk.cached_tokens

    def stats(self) -> Stats:
        """Every slot has a window of its own, so the share of the cache in use is that of the slots."""
        return Stats(self.running, self.waiting, self.running / self._size, self._read, self._reused)

    @asynccontextmanager
    async def one(self) -> AsyncGenerator[None, None]:
        await self.take()
        try:
            yield
        finally:
            self.give_back()


@dataclass(slots=True)
class Slot:
    """A sequence of the engine and what its cache was last filled with."""

    number: int
    owner: tuple[str, str] = ("", "")
    text: str = ""


class SlotPool:
    """Lends slots first come, first served; of the free ones, the one whose cache holds most of the prompt.

    A cache made for one (tenant, adapter) is never reused for another: a warm prefix answers faster, and that time
    would tell one tenant what another asked.
    """

    def __init__(self, size: int) -> None:
        self._idle = [Slot(number) for number in range(size)]
        self.turns = Turns(size)

    async def acquire(self, owner: tuple[str, str], text: str) -> tuple[Slot, bool]:
        """A slot, and whether its cache may be used. Waits while none is free."""
        await self.turns.take()
        slot = max(self._idle, key=lambda idle: (_shared(idle, owner, text), not idle.text))
        self._idle.remove(slot)
        warm = slot.owner == owner
        slot.owner, slot.text = owner, text
        return slot, warm

    def release(self, slot: Slot) -> None:
        self._idle.append(slot)
        self.turns.give_back()

    @property
    def idle(self) -> Sequence[Slot]:
        return tuple(self._idle)


def _shared(slot: Slot, owner: tuple[str, str], text: str) -> int:
    if slot.owner != owner:
        return 0
    pairs = zip(slot.text, text, strict=False)
    return next((place for place, (old, new) in enumerate(pairs) if old != new), min(len(slot.text), len(text)))
