"""The engines' own searches without a moment, a tenant or an index around them: what the funnel is compared with."""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np

from services.common.moment import Moment
from services.common.nodes.retriever import Query, Target, Vectors
from services.common.nodes.scope import Scope
from services.retriever.backends.base import Index
from services.retriever.backends.edge.index import EdgeIndex
from services.retriever.backends.edge.plan import Plan, request
from services.retriever.backends.faiss.index import FaissIndex

DEPTH, CANDIDATES, LISTS = 10, 300, 32

Search = Callable[[Vectors], object]


def bare_search(index: Index) -> Search:
    """Of one vector: its ten nearest."""
    if isinstance(index, EdgeIndex):
        return _edge(index)
    assert isinstance(index, FaissIndex)
    return _faiss(index)


def _edge(index: EdgeIndex) -> Search:
    plan = Plan("graph", index.count(), index.count())

    def search(vector: Vectors) -> object:
        asked = Query(Scope("", "", "", Moment(0, 0)), Target.PASSAGES, "", vector, DEPTH)
        return index.serving().query(request(asked, None, plan, index.definition, DEPTH))

    return search


def _faiss(index: FaissIndex) -> Search:
    segment = index.serving()
    (path,) = segment.directory.glob("index*.faiss")
    codes = faiss.read_index(str(path))
    faiss.extract_index_ivf(codes).nprobe = LISTS

    def search(vector: Vectors) -> object:
        _, found = codes.search(vector[None], CANDIDATES)
        rows = np.sort(found[0])
        scores = segment.vectors_of(rows) @ vector
        return rows[np.argsort(-scores)[:DEPTH]]

    return search
