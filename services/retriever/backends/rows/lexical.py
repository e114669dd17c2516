"""The lexical stage: BM25 over the rows that a query may see, its term statistics included."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import qdrant_edge as qe

from services.common.nodes.retriever import Query, Stage
from services.retriever.backends.rows.allowed import Allowed
from services.retriever.backends.rows.items import Asked, Ranked, Searched, best_items, top
from services.retriever.backends.rows.postings import TERM, BuiltPostings, RecentPostings, Terms
from services.retriever.backends.rows.segment import Segment

_BM25 = qe.Bm25()


def terms_of(text: str) -> Terms:
    """A passage's terms, weighted by how often it has them and how long it is."""
    sparse = _BM25.embed_document(text)
    return np.array(list(zip(sparse.indices, sparse.values, strict=True)), TERM)


class LexicalStage:
    """Searches the built postings, if there are, and those written since."""

    def __init__(self, segment: Segment, built: BuiltPostings | None, recent: RecentPostings) -> None:
        self._segment = segment
        self._parts: list[BuiltPostings | RecentPostings] = [recent] if built is None else [built, recent]

    def search(self, asked: Sequence[Asked], allowed: Allowed, points: int) -> Iterator[Searched]:
        """Queries that may see the same rows. points: how many there are in their place."""
        for query, depth in asked:
            began = time.perf_counter()
            ranked = self._matching(query, allowed)
            best = best_items(self._segment, query, depth, len(ranked[0]), partial(top, [ranked]))
            took = (time.perf_counter() - began) * 1000
            yield best, Stage("lexical", "postings", len(allowed), points, took)

    def _matching(self, query: Query, allowed: Allowed) -> Ranked:
        """Every allowed row with one of the words, and its score, by the Robertson–Spärck Jones weights of the rows
        that are allowed."""
        scores = np.zeros(len(allowed))
        for term in _BM25.embed_query(query.text).indices:
            found = [allowed.within(part.of_term(term)) for part in self._parts]
            holding = sum(len(places) for places, _ in found)
            rarity = math.log((len(allowed) - holding + 0.5) / (holding + 0.5) + 1)
            for places, weights in found:
                scores[places] += rarity * weights
        (matching,) = np.nonzero(scores)
        return allowed.rows[matching], scores[matching]
