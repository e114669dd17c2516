"""Fusion: dense and lexical hits as one order, by the distributions of their scores or by their ranks.

Distribution-based score fusion (DBSF), as Qdrant computes it: each stage's scores are scaled so that mean ± 3 standard
deviations becomes [0, 1], without clipping, and an item's scaled scores are added up. Reciprocal rank fusion (RRF) adds
up 1 / (k + rank), ranks from 0 (Cormack, Clarke and Büttcher, SIGIR 2009; k as Qdrant's default).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev

from services.common.nodes.funnel import Fusion
from services.common.nodes.retriever import Found, Hit, Stage
from services.retriever.backends.base import Candidate, Candidates

_MIDDLE = 0.5
_NO_SPREAD = 1e-6
"""A deviation this small beside the mean is float32 rounding; scaling it up would make an order out of noise."""
_RRF_K = 2


def fuse(found: Candidates, limit: int, fusion: Fusion = Fusion.DBSF) -> Found:
    """The best `limit` items of both stages, each once; ties by item id."""
    began = time.perf_counter()
    dense = {candidate.item_id: (rank, candidate) for rank, candidate in enumerate(found.dense, start=1)}
    lexical = {candidate.item_id: (rank, candidate) for rank, candidate in enumerate(found.lexical, start=1)}
    weigh = _WEIGHED[fusion]
    weights = [weigh(found.dense), weigh(found.lexical)]
    hits = [
        Hit(
            item_id=item_id,
            doc_id=candidate.doc_id,
            score=sum(weight.get(item_id, 0.0) for weight in weights),
            dense=dense[item_id][1].score if item_id in dense else None,
            lexical=lexical[item_id][1].score if item_id in lexical else None,
            extent=candidate.extent,
            dense_rank=dense[item_id][0] if item_id in dense else None,
            lexical_rank=lexical[item_id][0] if item_id in lexical else None,
        )
        for item_id, (_, candidate) in (lexical | dense).items()
    ]
    best = sorted(hits, key=lambda hit: (-hit.score, hit.item_id))[:limit]
    took = (time.perf_counter() - began) * 1000
    return Found(best, [*found.plan, Stage("fuse", fusion.value, len(best), len(hits), took)])


def _scaled(candidates: Sequence[Candidate]) -> dict[str, float]:
    scores = [candidate.score for candidate in candidates]
    if len(scores) < 2:
        return {candidate.item_id: _MIDDLE for candidate in candidates}
    mean, deviation = fmean(scores), stdev(scores)
    if deviation <= _NO_SPREAD * max(1.0, abs(mean)):
        return {candidate.item_id: _MIDDLE for candidate in candidates}
    low, width = mean - 3 * deviation, 6 * deviation
    return {candidate.item_id: (candidate.score - low) / width for candidate in candidates}


def _ranked(candidates: Sequence[Candidate]) -> dict[str, float]:
    return {candidate.item_id: 1 / (_RRF_K + rank) for rank, candidate in enumerate(candidates)}


_WEIGHED: Mapping[Fusion, Callable[[Sequence[Candidate]], dict[str, float]]] = {
    Fusion.DBSF: _scaled,
    Fusion.RRF: _ranked,
}
