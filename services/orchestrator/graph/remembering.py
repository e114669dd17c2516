"""The vectors of questions asked lately, so that the same question at another moment is not encoded again."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
MOST = 2_048
"""How many vectors are kept: 3 MiB of 384 dimensions."""


class QuestionVectors:
    """The last vectors by encoder and text, in this process alone; no text of a question is kept.

    A model of a name is one model for good (its manifest holds the hashes of its files), so an entry never goes stale.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()

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


def _key(encoder: str, text: str) -> bytes:
    return sha256(f"{encoder}\0{text}".encode()).digest()
