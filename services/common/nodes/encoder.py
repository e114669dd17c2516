"""The encoder: text → vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class TextKind(StrEnum):
    """What a text is to the search; some models prompt the two differently."""

    QUERY = "query"
    PASSAGE = "passage"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    name: str
    dimensions: int
    max_tokens: int


class Encoder(Protocol):
    async def encode(self, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
        """One unit-length float32 row per text, shape (len(texts), dimensions), in order.

        A text longer than the model's window is truncated. Raises ModelNotFound for a model not served.
        """
        ...

    async def models(self) -> list[ModelInfo]:
        """The models served."""
        ...
