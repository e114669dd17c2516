"""The answer cache's entries in memory, which expire by a clock of the test's."""

from __future__ import annotations

from collections.abc import Callable


class MemoryEntries:
    """`clock` gives microseconds. Down, everything is missing, as RedisEntries has it."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.kept: dict[str, tuple[str, int]] = {}
        self.down = False
        self._clock = clock

    async def get(self, key: str) -> str | None:
        value, until = self.kept.get(key, ("", 0))
        return value if self._clock() < until and not self.down else None

    async def set(self, key: str, value: str, seconds: float) -> None:
        if not self.down:
            self.kept[key] = (value, self._clock() + int(seconds * 1_000_000))

    async def delete(self, key: str) -> None:
        self.kept.pop(key, None)
