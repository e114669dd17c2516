"""Which slot of the engine decodes which prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass


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
        self._free = asyncio.Semaphore(size)

    async def acquire(self, owner: tuple[str, str], text: str) -> tuple[Slot, bool]:
        """A slot, and whether its cache may be used. Waits while none is free."""
        await self._free.acquire()
        slot = max(self._idle, key=lambda idle: (_shared(idle, owner, text), not idle.text))
        self._idle.remove(slot)
        warm = slot.owner == owner
        slot.owner, slot.text = owner, text
        return slot, warm

    def release(self, slot: Slot) -> None:
        self._idle.append(slot)
        self._free.release()

    @property
    def idle(self) -> Sequence[Slot]:
        return tuple(self._idle)


def _shared(slot: Slot, owner: tuple[str, str], text: str) -> int:
    if slot.owner != owner:
        return 0
    pairs = zip(slot.text, text, strict=False)
    return next((place for place, (old, new) in enumerate(pairs) if old != new), min(len(slot.text), len(text)))
