"""How a dense search is done: by the number of points that are expected to pass its filter.

Few: their full vectors, exhaustively. More: their codes, which the engine scans below its own threshold. Many: the
graph. ACORN (Patel et al., SIGMOD 2024: neighbours of neighbours are looked at where a node does not pass) finds as
much as the links of moments do, in five to ten times the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import qdrant_edge as qe

from services.common.nodes.funnel import Funnel, Quantization
from services.common.nodes.retriever import Query, Vectors
from services.retriever.backends.base import Definition
from services.retriever.backends.edge.points import RETURNED
from services.retriever.backends.edge.schema import COARSE, DENSE, chooses, coarse, codes_below

_HNSW_EF = 64
_LEAST_RESCORED = {Quantization.NONE: 128, Quantization.INT8: 128, Quantization.BINARY: 300}
"""Candidates that full vectors rescore at least, however few items are wanted. One bit a dimension, 200,000 clustered
vectors, recall@10: 0.93 with 100, 0.998 with 200, 1.0 with 300 (benchmarks/funnel)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A stage's method, as `Stage` names them, and how many points are expected to pass."""

    method: str
    passing: int
    points: int


def choose(funnel: Funnel, exact: bool, passing: int, points: int, exact_below: int) -> Plan:
    """exact_below: up to how many passing points are searched by their full vectors."""
    if exact or passing <= exact_below:
        return Plan("exact", passing, points)
    return Plan("codes" if passing <= codes_below(funnel) else "graph", passing, points)


def request(query: Query, allowed: qe.Filter | None, plan: Plan, definition: Definition, limit: int) -> qe.QueryRequest:
    """The engine's one query for the dense stage: the best `limit` points."""
    assert query.vector is not None
    full = qe.Query.Nearest(query.vector.tolist(), using=DENSE)
    if plan.method == "exact":
        params = qe.SearchParams(exact=True, quantization=qe.QuantizationSearchParams(ignore=True))
        return qe.QueryRequest(limit, query=full, filter=allowed, params=params, with_payload=RETURNED)
    funnel = definition.funnel
    if chooses(funnel) == DENSE:
        params = _params(plan, funnel, _oversampling(funnel, limit), rescore=funnel.rescore)
        return qe.QueryRequest(limit, query=full, filter=allowed, params=params, with_payload=RETURNED)
    return _through_coarse(query.vector, full, allowed, plan, definition, limit)


def _through_coarse(
    vector: Vectors, full: qe.Query, allowed: qe.Filter | None, plan: Plan, definition: Definition, limit: int
) -> qe.QueryRequest:
    cut = qe.Query.Nearest(coarse(vector[None, :], definition)[0].tolist(), using=COARSE)
    funnel = definition.funnel
    params = _params(plan, funnel, None, rescore=False)
    if not funnel.rescore:
        return qe.QueryRequest(limit, query=cut, filter=allowed, params=params, with_payload=RETURNED)
    candidates = math.ceil(limit * _oversampling(funnel, limit))
    first = qe.Prefetch(candidates, query=cut, filter=allowed, params=params)
    return qe.QueryRequest(limit, query=full, prefetches=[first], with_payload=RETURNED)


def _params(plan: Plan, funnel: Funnel, oversampling: float | None, rescore: bool) -> qe.SearchParams:
    quantized = funnel.quantization is not Quantization.NONE
    return qe.SearchParams(
        hnsw_ef=_HNSW_EF,
        quantization=qe.QuantizationSearchParams(rescore=rescore, oversampling=oversampling if rescore else None)
        if quantized
        else None,
    )


def _oversampling(funnel: Funnel, limit: int) -> float:
    return max(funnel.oversampling, _LEAST_RESCORED[funnel.quantization] / limit)
