"""Rotate: the basis that keeps inner products best when all but the first dimensions are cut."""

from __future__ import annotations

import numpy as np

from services.common.errors import InvalidRequest
from services.common.nodes.retriever import Vectors

SAMPLE = 10_000
"""Vectors a basis is fitted on: 26 for each of 384 dimensions; enough for its subspace to settle."""


def fit(sample: Vectors, dimensions: int) -> Vectors:
    """Orthonormal rows, float32, shape (dimensions, sample.shape[1]); the same for the same sample.

    The leading eigenvectors of the second moment, without centring: of all projections of that rank they leave the
    smallest squared error of the vectors (Eckart–Young), and so of their inner products. Each points to where its
    largest component is positive. Raises InvalidRequest for a sample smaller than the dimensions asked for.
    """
    rows, width = sample.shape
    if rows < dimensions:
        raise InvalidRequest(
            f"a rotation to {dimensions} dimensions needs as many vectors to be fitted on; the corpus has {rows}"
        )
    wide = sample.astype(np.float64)
    _, axes = np.linalg.eigh(wide.T @ wide / rows)
    basis = axes[:, ::-1].T[: min(dimensions, width)]
    signs = np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(axis=1)])
    return np.ascontiguousarray((basis * signs[:, None]).astype(np.float32))
