"""What an engine adds to the rows: an index of coarse codes that a build makes, and how it is searched."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from services.common.nodes.retriever import Vectors
from services.retriever.backends.base import Definition
from services.retriever.backends.rows.bits import Bits
from services.retriever.backends.rows.lookup import Rows


class Coarse(Protocol):
    """A built index, its ids rows [0, rows)."""

    rows: int
    allocated: int
    """Bytes of memory that are no mapped files'."""

    def method(self, passing: int) -> str:
        """How it is searched when so many of its rows are allowed, as `Stage` names it; "exact" where full vectors
        must do."""
        ...

    def search(self, vectors: Vectors, allowed: Bits, wanted: int) -> tuple[Rows, Vectors]:
        """For each vector (projected, shape (n, coarse dimensions)) the ids of the `wanted` best allowed rows and their
        cosines by their codes; both of shape (n, wanted), ids of -1 where not all were found. allowed: one at
        least."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class Kind(Protocol):
    """How an engine's coarse indexes are made and read."""

    @property
    def name(self) -> str:
        """The backend's."""
        ...

    @property
    def module(self) -> str:
        """Whose `write(path, previous, definition, vectors, option)` the builder process calls."""
        ...

    @property
    def option(self) -> str:
        """Given to it."""
        ...

    @property
    def unbuilt_share(self) -> float:
        """Rows for each built one that may lie unbuilt, compared one by one, before a build pays."""
        ...

    def read(self, path: Path) -> Coarse:
        """What `write` has written at the path: a file or a directory."""
        ...


def projected(vectors: Vectors, definition: Definition) -> Vectors:
    """Rotated, or cut, or as they are; of length one, as the vectors must be. vectors: shape (n, dimensions)."""
    if definition.basis is not None:
        return normalized(vectors @ definition.basis.T)
    if definition.funnel.dimensions:
        return normalized(vectors[:, : definition.funnel.dimensions])
    return np.ascontiguousarray(vectors, np.float32)


def normalized(vectors: Vectors) -> Vectors:
    norms = np.sqrt(np.vecdot(vectors, vectors))[:, np.newaxis]
    return np.ascontiguousarray(vectors / np.where(norms > 0, norms, 1), dtype=np.float32)
