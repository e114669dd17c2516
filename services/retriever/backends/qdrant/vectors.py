"""The named vectors of a point: the full one, the coarse one where the funnel has one, and BM25's."""

from __future__ import annotations

import numpy as np

from services.common.nodes.funnel import Funnel
from services.common.nodes.retriever import Vectors
from services.retriever.backends.base import Definition

DENSE, COARSE, LEXICAL = "dense", "coarse", "lexical"


def chooses(funnel: Funnel) -> str:
    """The vector through which candidates are found."""
    return COARSE if funnel.dimensions else DENSE


def coarse(vectors: Vectors, definition: Definition) -> Vectors:
    """The first dimensions, rotated before if the generation is. float32, shape (n, dimensions); not normalised."""
    if definition.basis is not None:
        return np.asarray(vectors @ definition.basis.T, dtype=np.float32)
    return vectors[:, : definition.funnel.dimensions]
