"""The dense stage: which rows a query may see, how they are searched, and what the best of them are."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from services.common.moment import Extent, Moment, Span
from services.common.nodes.retriever import Query, Stage, Vectors
from services.retriever.backends.base import Candidate, Definition
from services.retriever.backends.faiss.coarse import Coarse, normalized, projected
from services.retriever.backends.faiss.lookup import Rows
from services.retriever.backends.faiss.segment import Place, Segment

Asked = tuple[Query, int]
Ranked = tuple[Rows, Vectors]
Searched = tuple[list[Candidate], Stage]
Group = tuple[Place, Moment, tuple[tuple[str, tuple[str, ...]], ...], bool]

_GRAPH_SHARE = 0.1
"""The share of allowed rows below which a graph loses its way: recall@10 of 1.0 at 25 %, of 0.43 at 1 %."""
_ROUGH = 300
"""Coarse candidates at least: of 200,000 rows with one bit a dimension 40 give a recall@10 of 0.745, 120 of 0.957, 200
of 0.992, 400 of 0.998, and cost about the same."""
_BLOCK = 8_192
"""Full vectors compared at once: 12 MiB at 384 dimensions."""


class DenseStage:
    """Searches a segment through its coarse index, if it has one, and exactly where that is not worth it.

    exact_below: allowed rows up to which their full vectors are all compared; 4,000 take 1.0 ms at 384 dimensions, as
    looking through every list of 200,000 rows does.
    """

    def __init__(self, segment: Segment, definition: Definition, coarse: Coarse | None, exact_below: int) -> None:
        self._segment = segment
        self._definition = definition
        self._coarse = coarse
        self._exact_below = exact_below

    def search(self, asked: Sequence[Asked]) -> list[Searched]:
        """Queries that may see the same rows are searched together. Each has a vector."""
        groups: dict[Group, list[int]] = defaultdict(list)
        for at, (query, _) in enumerate(asked):
            groups[_group(query)].append(at)
        found: dict[int, Searched] = {}
        for together in groups.values():
            found.update(zip(together, self._search_group([asked[at] for at in together]), strict=True))
        return [found[at] for at in range(len(asked))]

    def _search_group(self, asked: Sequence[Asked]) -> Iterator[Searched]:
        began = time.perf_counter()
        first = asked[0][0]
        place = _place(first)
        allowed = self._visible(first)
        table = self._segment.table(place)
        vectors = normalized(np.array([query.vector for query, _ in asked], np.float32))
        method = self._method(first, allowed)
        wanted = max(depth for _, depth in asked)
        ranked = self._ranked(method, vectors, allowed, wanted)
        best = [
            self._best(query, depth, method, vectors[at : at + 1], allowed, ranked[at])
            for at, (query, depth) in enumerate(asked)
        ]
        took = (time.perf_counter() - began) * 1000
        stage = Stage("dense", method, len(allowed), len(table) if table else 0, took)
        return ((candidates, stage) for candidates in best)

    def _visible(self, query: Query) -> Rows:
        place = _place(query)
        table = self._segment.table(place)
        if table is None:
            return np.empty(0, np.int64)
        rows = table.visible(query.scope.moment)
        for key, values in query.filters.items():
            rows = rows[np.isin(rows, self._segment.labelled(place, key, values), assume_unique=True)]
        return rows

    def _method(self, query: Query, allowed: Rows) -> str:
        if query.exact or self._coarse is None:
            return "exact"
        built = int(np.searchsorted(allowed, self._coarse.rows))
        lost = self._coarse.method == "graph" and built < _GRAPH_SHARE * self._coarse.rows
        return "exact" if built <= self._exact_below or lost else self._coarse.method

    def _best(
        self, query: Query, depth: int, method: str, vector: Vectors, allowed: Rows, ranked: Ranked
    ) -> list[Candidate]:
        """The best `depth` items; asks for more rows while several of them are of one item."""
        wanted = len(ranked[0])
        while True:
            best = self._items(query, ranked)
            if len(best) >= depth or len(ranked[0]) >= len(allowed):
                return sorted(best, key=lambda found: (-found.score, found.item_id))[:depth]
            wanted = 2 * max(wanted, depth)
            ranked = self._ranked(method, vector, allowed, wanted)[0]

    def _items(self, query: Query, ranked: Ranked) -> list[Candidate]:
        """Each item once, by its best row."""
        table, scope = self._segment.table(_place(query)), query.scope
        if table is None:
            return []
        rows, scores = ranked
        best: dict[str, Candidate] = {}
        for score, text, edges in zip(
            scores.tolist(), self._segment.texts(rows), table.times(rows).T.tolist(), strict=True
        ):
            passes = all(text.metadata.get(key) in values for key, values in query.filters.items())
            if passes and text.item_id not in best:
                extent = Extent(Span(edges[0], edges[1]), Span(edges[2], edges[3]))
                found = Candidate(text.item_id, text.doc_id, scope.tenant, scope.collection, extent, score)
                best[text.item_id] = found
        return list(best.values())

    def _ranked(self, method: str, vectors: Vectors, allowed: Rows, wanted: int) -> list[Ranked]:
        """For each vector the `wanted` best allowed rows, or all of them, best first, with their cosines."""
        if self._coarse is None or method == "exact":
            return self._exact(vectors, allowed, wanted)
        built = int(np.searchsorted(allowed, self._coarse.rows))
        coarse = self._through(self._coarse, vectors, allowed[:built], wanted)
        delta = self._exact(vectors, allowed[built:], wanted)
        return [_top([one, other], wanted) for one, other in zip(coarse, delta, strict=True)]

    def _through(self, coarse: Coarse, vectors: Vectors, allowed: Rows, wanted: int) -> list[Ranked]:
        funnel = self._definition.funnel
        rough = max(_ROUGH, math.ceil(wanted * funnel.oversampling)) if funnel.rescore else wanted
        rough = min(rough, len(allowed))
        ids, scores = coarse.search(projected(vectors, self._definition), allowed, rough)
        if (ids < 0).any():  # only every full vector can tell what the graph did not reach
            return self._exact(vectors, allowed, wanted)
        if not funnel.rescore:
            return list(zip(ids, scores, strict=True))
        return [self._exact(vectors[at : at + 1], np.sort(row), wanted)[0] for at, row in enumerate(ids)]

    def _exact(self, vectors: Vectors, allowed: Rows, wanted: int) -> list[Ranked]:
        parts: list[list[Ranked]] = [[(np.empty(0, np.int64), np.empty(0, np.float32))] for _ in vectors]
        for start in range(0, len(allowed), _BLOCK):
            rows = allowed[start : start + _BLOCK]
            scores = self._segment.vectors_of(rows) @ vectors.T
            for part, column in zip(parts, scores.T, strict=True):
                part.append(_top([(rows, column)], wanted))
        return [_top(part, wanted) for part in parts]


def _group(query: Query) -> Group:
    filters = tuple(sorted((key, tuple(values)) for key, values in query.filters.items()))
    return _place(query), query.scope.moment, filters, query.exact


def _place(query: Query) -> Place:
    return query.scope.tenant, query.scope.collection, query.target


def _top(parts: Sequence[Ranked], wanted: int) -> Ranked:
    rows = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts])
    if len(rows) > wanted:
        kept = np.argpartition(-scores, wanted - 1)[:wanted]
        rows, scores = rows[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")
    return rows[order], scores[order]
