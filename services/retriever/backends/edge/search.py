"""The searches of one shard: a batch of queries in one engine call for each stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import qdrant_edge as qe

from services.common.nodes.retriever import Query, Stage
from services.retriever.backends.base import Candidate, Candidates, Definition
from services.retriever.backends.edge.filter import visible
from services.retriever.backends.edge.plan import Plan, choose, request
from services.retriever.backends.edge.points import RETURNED, best_items
from services.retriever.backends.edge.schema import LEXICAL

Request = Callable[[int], qe.QueryRequest]
"""The engine's query for so many points."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One stage of one query; `place` is the query's in the batch, `depth` the items it wants."""

    place: int
    depth: int
    plan: Plan
    request: Request


class Searcher:
    """Searches a shard by its generation's definition. exact_below: see RetrieverSettings.retriever_exact_below."""

    def __init__(self, definition: Definition, bm25: qe.Bm25, exact_below: int, dense: bool) -> None:
        self._definition = definition
        self._bm25 = bm25
        self._exact_below = exact_below
        self._dense = dense

    def search(self, shard: qe.EdgeShard, points: int, asked: Sequence[tuple[Query, int]]) -> list[Candidates]:
        """points: how many the shard holds. The stages' times are those of the whole batch."""
        dense: list[_Asked] = []
        lexical: list[_Asked] = []
        for place, (query, depth) in enumerate(asked):
            allowed = visible(query)
            passing = _estimate(shard, allowed)
            if query.vector is not None and self._dense:
                dense.append(self._nearest(place, query, depth, allowed, passing, points))
            if query.text:
                plan = Plan("postings", passing, points)
                lexical.append(_Asked(place, depth, plan, self._matching(query.text, allowed)))
        near, near_stages = _stage("dense", shard, dense)
        matching, matching_stages = _stage("lexical", shard, lexical)
        return [
            Candidates(near.get(place, ()), matching.get(place, ()), _present(place, near_stages, matching_stages))
            for place in range(len(asked))
        ]

    def _nearest(self, place: int, query: Query, depth: int, allowed: qe.Filter, passing: int, points: int) -> _Asked:
        definition = self._definition
        plan = choose(definition.funnel, query.exact, passing, points, self._exact_below)
        return _Asked(place, depth, plan, lambda limit: request(query, allowed, plan, definition, limit))

    def _matching(self, text: str, allowed: qe.Filter) -> Request:
        matching = qe.Query.Nearest(self._bm25.embed_query(text), using=LEXICAL)
        params = qe.SearchParams(idf=qe.IdfParams(corpus=allowed))
        return lambda limit: qe.QueryRequest(
            limit, query=matching, filter=allowed, params=params, with_payload=RETURNED
        )


def _estimate(shard: qe.EdgeShard, allowed: qe.Filter) -> int:
    """How many points pass, estimated from the payload indexes alone."""
    return int(shard.count(qe.CountRequest(exact=False, filter=allowed)))


def _present(place: int, *stages: dict[int, Stage]) -> list[Stage]:
    return [stage[place] for stage in stages if place in stage]


def _stage(
    name: str, shard: qe.EdgeShard, asked: Sequence[_Asked]
) -> tuple[dict[int, list[Candidate]], dict[int, Stage]]:
    if not asked:
        return {}, {}
    began = time.perf_counter()
    together = shard.query_batch(qe.QueryBatchRequest([one.request(one.depth) for one in asked]))
    found = {one.place: _complete(shard, one, points) for one, points in zip(asked, together, strict=True)}
    ms = (time.perf_counter() - began) * 1000
    plans = {one.place: one.plan for one in asked}
    stages = {place: Stage(name, plan.method, plan.passing, plan.points, ms) for place, plan in plans.items()}
    return found, stages


def _complete(shard: qe.EdgeShard, asked: _Asked, points: Sequence[qe.ScoredPoint]) -> list[Candidate]:
    """The best `depth` items; asks for more points while several of them are of one item."""
    limit = asked.depth
    best = best_items(points)
    while len(best) < asked.depth and len(points) >= limit:
        limit *= 2
        points = shard.query(asked.request(limit))
        best = best_items(points)
    return best[: asked.depth]
