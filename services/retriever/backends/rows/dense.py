"""The dense stage: how the rows that a query may see are searched."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from services.common.nodes.retriever import Query, Stage, Vectors
from services.retriever.backends.base import Definition
from services.retriever.backends.rows.allowed import Allowed
from services.retriever.backends.rows.coarse import Coarse, normalized, projected
from services.retriever.backends.rows.items import Asked, Ranked, Searched, best_items, top
from services.retriever.backends.rows.lookup import Rows
from services.retriever.backends.rows.segment import Segment

_ROUGH = 300
"""Coarse candidates at least: of 200,000 rows with one bit a dimension 40 give a recall@10 of 0.745, 120 of 0.957, 200
of 0.992, 400 of 0.998; each costs 2 µs to read."""
_READ_ALL = _ROUGH
"""Allowed rows up to which all of their full vectors are read, as those of so many candidates are anyway."""
_BLOCK = 8_192
"""Full vectors compared at once: 12 MiB at 384 dimensions."""


class DenseStage:
    """Searches a segment through its coarse index, if it has one, and exactly where that is not worth it.

    exact_below: allowed rows up to which their full vectors are all compared, and no more than pay.
    """

    def __init__(self, segment: Segment, definition: Definition, coarse: Coarse | None, exact_below: int) -> None:
        self._segment = segment
        self._definition = definition
        self._coarse = coarse
        self._exact_below = exact_below

    def search(self, asked: Sequence[Asked], allowed: Allowed, points: int) -> Iterator[Searched]:
        """Queries that may see the same rows, each with a vector. points: how many there are in their place."""
        if not asked:
            return iter(())
        began = time.perf_counter()
        vectors = normalized(np.array([query.vector for query, _ in asked], np.float32))
        method = self._method(asked[0][0], allowed)
        ranked = self._ranked(method, vectors, allowed, max(depth for _, depth in asked))
        best = []
        for at, (query, depth) in enumerate(asked):
            more = partial(self._at_least, ranked[at], method, vectors[at : at + 1], allowed)
            best.append(best_items(self._segment, query, depth, len(allowed), more))
        stage = Stage("dense", method, len(allowed), points, (time.perf_counter() - began) * 1000)
        return ((candidates, stage) for candidates in best)

    def _method(self, query: Query, allowed: Allowed) -> str:
        if query.exact or self._coarse is None or len(allowed) <= min(self._exact_below, _READ_ALL):
            return "exact"
        return self._coarse.method(len(allowed))

    def _at_least(self, ranked: Ranked, method: str, vector: Vectors, allowed: Allowed, wanted: int) -> Ranked:
        """What was ranked already, if it is enough."""
        return ranked if wanted <= len(ranked[0]) else self._ranked(method, vector, allowed, wanted)[0]

    def _ranked(self, method: str, vectors: Vectors, allowed: Allowed, wanted: int) -> list[Ranked]:
        """For each vector the `wanted` best allowed rows, or all of them, best first, with their cosines."""
        if self._coarse is None or method == "exact":
            return self._exact(vectors, allowed.rows, wanted)
        coarse = self._through(self._coarse, vectors, allowed, wanted)
        unbuilt = allowed.since(self._coarse.rows)
        if not len(unbuilt):
            return coarse
        delta = self._exact(vectors, unbuilt, wanted)
        return [top([one, other], wanted) for one, other in zip(coarse, delta, strict=True)]

    def _through(self, coarse: Coarse, vectors: Vectors, allowed: Allowed, wanted: int) -> list[Ranked]:
        """Of the built rows."""
        funnel = self._definition.funnel
        bits = allowed.bits(coarse.rows)
        built = len(bits)
        rough = max(_ROUGH, math.ceil(wanted * funnel.oversampling)) if funnel.rescore else wanted
        if built:
            ids, scores = coarse.search(projected(vectors, self._definition), bits, min(rough, built))
        if not built or (ids < 0).any():  # only every full vector can tell what the graph did not reach
            return self._exact(vectors, bits.listed(), wanted)
        if not funnel.rescore:
            return list(zip(ids, scores, strict=True))
        return [self._exact(vectors[at : at + 1], np.sort(row), wanted)[0] for at, row in enumerate(ids)]

    def _exact(self, vectors: Vectors, allowed: Rows, wanted: int) -> list[Ranked]:
        if not len(allowed):
            return [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in vectors]
        parts: list[list[Ranked]] = [[] for _ in vectors]
        for start in range(0, len(allowed), _BLOCK):
            rows = allowed[start : start + _BLOCK]
            scores = _cosines(self._segment.vectors_of(rows), vectors)
            for part, column in zip(parts, scores.T, strict=True):
                part.append(top([(rows, column)], wanted))
        return [part[0] if len(part) == 1 else top(part, wanted) for part in parts]


def _cosines(held: Vectors, vectors: Vectors) -> Vectors:
    """Shape (len(held), len(vectors)). One vector not by BLAS: its threads wait for each other where cores are busy."""
    if len(vectors) == 1:
        return np.asarray(np.vecdot(held, vectors[0])[:, np.newaxis], np.float32)
    return np.asarray(held @ vectors.T, np.float32)
