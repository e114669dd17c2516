"""Words hashed into vectors: no model file, nothing learned, the same everywhere. For tests and trials."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.common.models import Model
from services.common.nodes.encoder import Vectors

_WORD = re.compile(r"\w+")
_SPECIAL_TOKENS = 2


class MemoryBackend:
    batch_tokens = 512
    batch_cost = 16
    lanes = 1

    def reads(self, model: Model) -> bool:
        return True

    def load(self, model: Model) -> HashedWords:
        return HashedWords(model.dimensions, model.max_tokens)


class HashedWords:
    """The sum of one random direction per word: texts that share words are close."""

    packs = True

    def __init__(self, dimensions: int, max_tokens: int) -> None:
        self._dimensions = dimensions
        self._max_tokens = max_tokens

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text."""
        return [_WORD.findall(text.lower())[: self._max_tokens - _SPECIAL_TOKENS] for text in texts]

    def embed(self, batch: Sequence[list[str]]) -> Vectors:
        return np.stack([self._row(words) for words in batch]).astype(np.float32)

    def _row(self, words: list[str]) -> npt.NDArray[np.float64]:
        total = np.sum([self._direction(word) for word in words or [""]], axis=0)
        unit: npt.NDArray[np.float64] = total / np.linalg.norm(total)
        return unit

    def _direction(self, word: str) -> npt.NDArray[np.float64]:
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
        return np.random.default_rng(seed).standard_normal(self._dimensions)
