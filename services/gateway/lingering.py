"""Work that goes on for a while after its client was cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Lingering:
    """Holds the tasks of one gateway, which the event loop itself does not."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work to its end, or until the gateway stops."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel what is left, and wait until it has ended."""
        await asyncio.sleep(0)  # a task that is cancelled before it begins never comes to its `finally`
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
