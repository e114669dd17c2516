"""An end that no client notices: before it stops, the gateway has them leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import FrameType

import uvicorn


class DrainingServer(uvicorn.Server):
    """Goes on for `seconds` after it was told to stop, `drain` called; told once more, it stops at once.

    Afterwards it accepts nothing, closes what is idle, and lets what is in flight end, as its configuration says.
    """

    def __init__(self, config: uvicorn.Config, seconds: float, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._seconds, self._drain = seconds, drain
        self._until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._until is None:
            self._until = time.monotonic() + self._seconds
            self._drain()
        else:
            self._until = 0.0
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        stopping = await super().on_tick(counter)
        return stopping and (self._until is None or time.monotonic() >= self._until)
