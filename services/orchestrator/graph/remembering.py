"""The vectors of questions asked lately, so that the same question at another moment is not encoded again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
MOST = 2_048
"""How many vectors are kept: 3 MiB of 384 dimensions."""

Make = Callable[[], Awaitable[Vector]]


class QuestionVectors:
    """The last vectors by encoder and text, and those that are being made, in this process alone; no text is kept.

    A model of a name is one model for good (its manifest holds the hashes of its files), so an entry never goes stale.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        self._making: dict[bytes, _Making] = {}

    async def of(self, encoder: str, text: str, make: Make) -> Vector:
        """As `get`; else what another caller is having made; else what `make` gives, and raises."""
        kept = self.get(encoder, text)
        if kept is not None:
            return kept
        key = _key(encoder, text)
        if key in self._making:
            with suppress(Exception):
                return await self._made(key)
            return await self.of(encoder, text, make)
        self._making[key] = _Making(self._make(encoder, text, make))
        return await self._made(key)

    async def _make(self, encoder: str, text: str, make: Make) -> Vector:
        vector = await make()
        self.put(encoder, text, vector)
        return vector

    async def _made(self, key: bytes) -> Vector:
        """What is being made. Once nobody waits for it any more, it is no longer made."""
        making = self._making[key]
        making.waiting += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if making.task.done() or not making.waiting:
                making.task.cancel()
                if self._making.get(key) is making:
                    del self._making[key]

    def get(self, encoder: str, text: str) -> Vector | None:
        """Shape (dimensions,), read-only; None for one that is not there any more."""
        key = _key(encoder, text)
        if key not in self._vectors:
            return None
        self._vectors.move_to_end(key)
        return self._vectors[key]

    def put(self, encoder: str, text: str, vector: Vector) -> None:
        vector.flags.writeable = False
        self._vectors[_key(encoder, text)] = vector
        if len(self._vectors) > self._most:
            self._vectors.popitem(last=False)


class _Making:
    def __init__(self, work: Coroutine[Any, Any, Vector]) -> None:
        self.task = asyncio.create_task(work)
        self.waiting = 0


def _key(encoder: str, text: str) -> bytes:
    return sha256(f"{encoder}\0{text}".encode()).digest()
