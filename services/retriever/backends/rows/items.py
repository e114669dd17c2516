"""From rows to items: each item once, by the best of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from services.common.moment import Extent, Span
from services.common.nodes.retriever import Query, Stage
from services.retriever.backends.base import Candidate
from services.retriever.backends.rows.lookup import Rows
from services.retriever.backends.rows.segment import Place, Segment

Asked = tuple[Query, int]
Ranked = tuple[Rows, npt.NDArray[np.floating]]
"""Rows and their scores."""
Searched = tuple[list[Candidate], Stage]


def place_of(query: Query) -> Place:
    return query.scope.tenant, query.scope.collection, query.target


def top(parts: Sequence[Ranked], wanted: int) -> Ranked:
    """The best of all parts, best first."""
    rows = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts])
    if len(rows) > wanted:
        kept = np.argpartition(-scores, wanted - 1)[:wanted]
        rows, scores = rows[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")
    return rows[order], scores[order]


def best_items(
    segment: Segment, query: Query, depth: int, most: int, ranked: Callable[[int], Ranked]
) -> list[Candidate]:
    """The best `depth` items; asks for more rows, up to `most`, while several of them are of one item.

    ranked: gives so many rows, best first.
    """
    wanted = depth
    while True:
        found = ranked(wanted)
        best = _items(segment, query, found)
        if len(best) >= depth or len(found[0]) >= most:
            return sorted(best, key=lambda one: (-one.score, one.item_id))[:depth]
        wanted = 2 * max(wanted, len(found[0]))


def _items(segment: Segment, query: Query, ranked: Ranked) -> list[Candidate]:
    table, scope = segment.table(place_of(query)), query.scope
    if table is None:
        return []
    rows, scores = ranked
    best: dict[str, Candidate] = {}
    for score, text, edges in zip(scores.tolist(), segment.texts(rows), table.times(rows).T.tolist(), strict=True):
        passes = all(text.metadata.get(key) in values for key, values in query.filters.items())
        if passes and text.item_id not in best:
            extent = Extent(Span(edges[0], edges[1]), Span(edges[2], edges[3]))
            best[text.item_id] = Candidate(text.item_id, text.doc_id, scope.tenant, scope.collection, extent, score)
    return list(best.values())
