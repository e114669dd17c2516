"""The searches of one collection of the server: a batch of queries in one request for each stage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qdrant_client import models
from qdrant_edge import Bm25

from services.common.nodes.funnel import Quantization
from services.common.nodes.retriever import Query, Stage, Vectors
from services.retriever import visibility
from services.retriever.backends.base import Candidate, Candidates, Definition
from services.retriever.backends.qdrant.filter import rendered
from services.retriever.backends.qdrant.points import RETURNED, best_items
from services.retriever.backends.qdrant.server import Server
from services.retriever.backends.qdrant.vectors import COARSE, DENSE, LEXICAL, chooses, coarse

_HNSW_EF = 128
_LEAST_RESCORED = 128
"""Candidates that full vectors rescore at least, however few items are wanted."""
_ACORN_BELOW = 0.4
"""Share of passing points from which on ACORN (Patel et al., SIGMOD 2024) is left out."""

Request = Callable[[int], models.QueryRequest]
"""The server's query for so many points."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One stage of one query; `place` is the query's in the batch, `depth` the items it wants."""

    place: int
    depth: int
    method: str
    passing: int
    request: Request


class Searcher:
    """Searches by a generation's definition. exact_below: see RetrieverSettings.retriever_exact_below."""

    def __init__(self, server: Server, definition: Definition, bm25: Bm25, exact_below: int) -> None:
        self._server = server
        self._definition = definition
        self._bm25 = bm25
        self._exact_below = exact_below

    def search(self, collection: str, points: int, asked: Sequence[tuple[Query, int]]) -> list[Candidates]:
        """points: how many the collection holds. The stages' times are those of the whole batch."""
        dense: list[_Asked] = []
        lexical: list[_Asked] = []
        for place, (query, depth) in enumerate(asked):
            allowed = rendered(visibility.of_query(query))
            passing = self._estimate(collection, allowed)
            if query.vector is not None:
                method = "exact" if query.exact or passing <= self._exact_below else "graph"
                dense.append(_Asked(place, depth, method, passing, self._nearest(query.vector, method, allowed)))
            if query.text:
                lexical.append(_Asked(place, depth, "postings", passing, self._matching(query.text, allowed)))
        near, near_plan = self._stage("dense", collection, points, dense)
        matching, matching_plan = self._stage("lexical", collection, points, lexical)
        plans = [[plan[place] for plan in (near_plan, matching_plan) if place in plan] for place in range(len(asked))]
        return [Candidates(near.get(place, ()), matching.get(place, ()), plan) for place, plan in enumerate(plans)]

    def _estimate(self, collection: str, allowed: models.Filter) -> int:
        """How many points pass, by the server's estimate from its payload indexes."""
        with self._server.reached():
            return self._server.client.count(collection, allowed, exact=False).count

    def _nearest(self, vector: Vectors, method: str, allowed: models.Filter) -> Request:
        full = models.NearestQuery(nearest=vector.tolist())
        funnel = self._definition.funnel
        if method == "exact":
            params = self._exact()
            return lambda limit: _request(limit, DENSE, full, allowed, params)
        if chooses(funnel) == DENSE:
            return lambda limit: _request(limit, DENSE, full, allowed, self._approximate(limit, funnel.rescore))
        cut = models.NearestQuery(nearest=coarse(vector[None, :], self._definition)[0].tolist())
        if not funnel.rescore:
            return lambda limit: _request(limit, COARSE, cut, allowed, self._approximate(limit, False))
        return lambda limit: _request(limit, DENSE, full, None, None, self._prefetch(limit, cut, allowed))

    def _prefetch(self, limit: int, cut: models.NearestQuery, allowed: models.Filter) -> models.Prefetch:
        candidates = math.ceil(limit * self._oversampling(limit))
        params = self._approximate(limit, False)
        return models.Prefetch(query=cut, using=COARSE, filter=allowed, params=params, limit=candidates)

    def _matching(self, text: str, allowed: models.Filter) -> Request:
        sparse = self._bm25.embed_query(text)
        matching = models.NearestQuery(nearest=models.SparseVector(indices=sparse.indices, values=sparse.values))
        params = models.SearchParams(idf=models.IdfCorpusParams(corpus=allowed))
        return lambda limit: _request(limit, LEXICAL, matching, allowed, params)

    def _exact(self) -> models.SearchParams | None:
        if self._server.local:  # always exact, and it warns of parameters
            return None
        return models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))

    def _approximate(self, limit: int, rescore: bool) -> models.SearchParams | None:
        """ACORN is taken by the server where the filter passes no more than the share."""
        if self._server.local:
            return None
        quantized = self._definition.funnel.quantization is not Quantization.NONE
        oversampling = self._oversampling(limit) if rescore else None
        return models.SearchParams(
            hnsw_ef=_HNSW_EF,
            acorn=models.AcornSearchParams(enable=True, max_selectivity=_ACORN_BELOW),
            quantization=models.QuantizationSearchParams(rescore=rescore, oversampling=oversampling)
            if quantized
            else None,
        )

    def _oversampling(self, limit: int) -> float:
        return max(self._definition.funnel.oversampling, _LEAST_RESCORED / limit)

    def _stage(
        self, name: str, collection: str, points: int, asked: Sequence[_Asked]
    ) -> tuple[dict[int, list[Candidate]], dict[int, Stage]]:
        began = time.perf_counter()
        found = self._complete(collection, asked)
        ms = (time.perf_counter() - began) * 1000
        return found, {one.place: Stage(name, one.method, one.passing, points, ms) for one in asked}

    def _complete(self, collection: str, asked: Sequence[_Asked]) -> dict[int, list[Candidate]]:
        """The best `depth` items of each; asks for more points while several of them are of one item."""
        found: dict[int, list[Candidate]] = {}
        limits = {one.place: one.depth for one in asked}
        open_ones = list(asked)
        while open_ones:
            with self._server.reached():
                requests = [one.request(limits[one.place]) for one in open_ones]
                answers = self._server.client.query_batch_points(collection, requests)
            short: list[_Asked] = []
            for one, answer in zip(open_ones, answers, strict=True):
                points: Any = answer.points  # alike what the embedded engine returns
                best = best_items(points)
                found[one.place] = best[: one.depth]
                if len(best) < one.depth and len(answer.points) >= limits[one.place]:
                    limits[one.place] *= 2
                    short.append(one)
            open_ones = short
        return found


def _request(
    limit: int,
    using: str,
    query: models.NearestQuery,
    allowed: models.Filter | None,
    params: models.SearchParams | None,
    prefetch: models.Prefetch | None = None,
) -> models.QueryRequest:
    return models.QueryRequest(
        prefetch=prefetch,
        query=query,
        using=using,
        filter=allowed,
        params=params,
        limit=limit,
        with_payload=models.PayloadSelectorInclude(include=RETURNED),
    )
