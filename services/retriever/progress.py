"""How far one collection is applied, and those who wait for it to be."""

from __future__ import annotations

import asyncio

from services.common.errors import BehindWatermark
from services.common.moment import format_instant


class Progress:
    """One collection's watermark in one generation. `applying` lets one apply in at a time."""

    def __init__(self, watermark: int) -> None:
        self.watermark = watermark
        self.applying = asyncio.Lock()
        self._moved = asyncio.Condition()

    async def reach(self, known_at: int, seconds: float) -> None:
        """Wait until the watermark is at `known_at`. Raises BehindWatermark after `seconds`."""
        if self.watermark >= known_at:
            return
        try:
            async with asyncio.timeout(seconds), self._moved:
                await self._moved.wait_for(lambda: self.watermark >= known_at)
        except TimeoutError:
            raise BehindWatermark(
                f"the index is at {format_instant(self.watermark)}, the question at {format_instant(known_at)}; "
                "ask again shortly, or leave known_at out"
            ) from None

    async def advance(self, watermark: int) -> None:
        async with self._moved:
            self.watermark = watermark
            self._moved.notify_all()
