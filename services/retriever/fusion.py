"""Fusion: dense and lexical hits as one order, by the distributions of their scores or by their ranks.

Distribution-based score fusion (DBSF), as Qdrant computes it: each stage's scores are scaled so that mean ± 3 standard
deviations becomes [0, 1], without clipping, and an item's scaled scores are added up. Reciprocal rank fusion (RRF) adds
up 1 / (k + rank), ranks from 0 (Cormack, Clarke and Büttcher, SIGIR 2009; k as Qdrant's default).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from services.common.nodes.funnel import Fusion
from services.common.nodes.retriever import Found, Hit, Stage
from services.retriever.backends.base import Candidate, Candidates

_MIDDLE = 0.5
_NO_SPREAD = 1e-6
"""A deviation this small beside the mean is float32 rounding; scaling it up would make an order out of noise."""
_RRF_K = 2

_Ranked = tuple[int, Candidate]


def fuse(found: Candidates, limit: int, fusion: Fusion = Fusion.DBSF) -> Found:
    """The best `limit` items of both stages, each once; ties by item id."""
    began = time.perf_counter()
    dense = {candidate.item_id: (rank, candidate) for rank, candidate in enumerate(found.dense, start=1)}
    lexical = {candidate.item_id: (rank, candidate) for rank, candidate in enumerate(found.lexical, start=1)}
    weigh = _WEIGHED[fusion]
    near, matching = weigh(found.dense), weigh(found.lexical)
    scores = {item_id: near.get(item_id, 0.0) + matching.get(item_id, 0.0) for item_id in lexical | dense}
    best = sorted(scores.items(), key=lambda one: (-one[1], one[0]))[:limit]
    hits = [_hit(item_id, score, dense.get(item_id), lexical.get(item_id)) for item_id, score in best]
    took = (time.perf_counter() - began) * 1000
    return Found(hits, [*found.plan, Stage("fuse", fusion.value, len(hits), len(scores), took)])


def _hit(item_id: str, score: float, near: _Ranked | None, matching: _Ranked | None) -> Hit:
    """Of an item that at least one stage found."""
    found = near or matching
    assert found is not None
    return Hit(
        item_id=item_id,
        doc_id=found[1].doc_id,
        score=score,
        dense=near[1].score if near else None,
        lexical=matching[1].score if matching else None,
        extent=found[1].extent,
        dense_rank=near[0] if near else None,
        lexical_rank=matching[0] if matching else None,
    )


def _scaled(candidates: Sequence[Candidate]) -> dict[str, float]:
    scores = [candidate.score for candidate in candidates]
    if len(scores) < 2:
        return {candidate.item_id: _MIDDLE for candidate in candidates}
    mean = fmean(scores)
    # `statistics.stdev` works in exact fractions, which takes longer than all else here.
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
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
