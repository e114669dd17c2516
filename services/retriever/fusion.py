"""Distribution-based score fusion (DBSF), as Qdrant computes it.

Each stage's scores are scaled so that mean ± 3 standard deviations becomes [0, 1], without clipping, and an item's
scaled scores are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from services.common.nodes.retriever import Hit
from services.retriever.backends.base import Candidate, Candidates

_MIDDLE = 0.5
_NO_SPREAD = 1e-6
"""A deviation this small beside the mean is float32 rounding; scaling it up would make an order out of noise."""


def fuse(found: Candidates, limit: int) -> list[Hit]:
    """The best `limit` items of both stages, each once; ties by item id."""
    dense = {candidate.item_id: candidate for candidate in found.dense}
    lexical = {candidate.item_id: candidate for candidate in found.lexical}
    scaled_dense, scaled_lexical = _scaled(found.dense), _scaled(found.lexical)
    hits = [
        Hit(
            item_id=item_id,
            doc_id=candidate.doc_id,
            score=scaled_dense.get(item_id, 0.0) + scaled_lexical.get(item_id, 0.0),
            dense=dense[item_id].score if item_id in dense else None,
            lexical=lexical[item_id].score if item_id in lexical else None,
            extent=candidate.extent,
        )
        for item_id, candidate in (lexical | dense).items()
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.item_id))[:limit]


def _scaled(candidates: Sequence[Candidate]) -> dict[str, float]:
    scores = [candidate.score for candidate in candidates]
    if len(scores) < 2:
        return {candidate.item_id: _MIDDLE for candidate in candidates}
    mean, deviation = fmean(scores), stdev(scores)
    if deviation <= _NO_SPREAD * max(1.0, abs(mean)):
        return {candidate.item_id: _MIDDLE for candidate in candidates}
    low, width = mean - 3 * deviation, 6 * deviation
    return {candidate.item_id: (candidate.score - low) / width for candidate in candidates}
