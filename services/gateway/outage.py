"""What is asked of Redis beside the way of an answer: while it is down it is left alone, and the log says so once."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import RedisError

FAILURES = (RedisError, OSError)
"""What a Redis that is not there raises; TimeoutError is an OSError."""
_DOWN_SECONDS = 1.0
"""How long Redis is not asked again after it failed, so that each request does not wait for it."""

Result = TypeVar("Result")


class Outages:
    """Asks while Redis is up. `lost` is told the first failure of an outage, `back` its end."""

    def __init__(
        self, lost: Callable[[str], None], back: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lost, self._back, self._clock = lost, back, clock
        self._down_until: float | None = None

    async def ask(self, work: Callable[[], Awaitable[Result]]) -> tuple[bool, Result | None]:
        """Whether Redis answered, and what."""
        if self._down_until is not None and self._clock() < self._down_until:
            return False, None
        try:
            found = await work()
        except FAILURES as failure:
            if self._down_until is None:
                self._lost(str(failure) or type(failure).__name__)
            self._down_until = self._clock() + _DOWN_SECONDS
            return False, None
        if self._down_until is not None:
            self._back()
            self._down_until = None
        return True, found
