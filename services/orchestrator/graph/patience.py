"""A node that is replaced is away for a moment: what was asked of it is asked again until it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.common.errors import AlmanacError, Unavailable

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0

Result = TypeVar("Result")


class NodeFailed(Exception):
    """A node did not do its part; the step falls back if it can."""

    def __init__(self, node: str, error: AlmanacError) -> None:
        super().__init__(f"{node}: {error.detail}")
        self.node, self.error = node, error

    @property
    def away(self) -> bool:
        """Whether nobody answered, rather than the node itself, badly or late."""
        return type(self.error) is Unavailable


class Patience:
    """Waits for a node that is away, for up to `seconds` since it first was: by then it is not being replaced."""

    def __init__(self, seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._away: dict[str, float] = {}

    async def call(self, node: str, work: Callable[[], Awaitable[Result]]) -> Result:
        """What work gives, made again while a node is away. Raises NodeFailed once that has lasted too long."""
        pause = FIRST_PAUSE
        while True:
            try:
                found = await work()
            except NodeFailed as failure:
                if not failure.away or self._waited(failure.node) + pause > self.seconds:
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._away.pop(node, None)
                return found

    def _waited(self, node: str) -> float:
        return self._clock() - self._away.setdefault(node, self._clock())
