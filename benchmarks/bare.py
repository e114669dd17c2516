"""The engines' own searches without a moment, a tenant or an index around them: what the funnel is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from services.common.nodes.retriever import Vectors
from services.retriever.backends.edge.graph import Graph, request
from services.retriever.backends.rows.index import RowsIndex

DEPTH, CANDIDATES, PROBED = 10, 300, 32

Search = Callable[[Vectors], object]


def bare_search(index: RowsIndex) -> Search:
    """Of one vector: its ten nearest among the built rows, of as many candidates as the index takes.

    In the very memory that the index searches: a copy would be cold each time.
    """
    coarse: Any = index._coarse
    return _edge(coarse.shard) if isinstance(coarse, Graph) else _faiss(coarse._index, index)


def _edge(shard: Any) -> Search:
    """The engine rescores by the halves that it has itself."""
    return lambda vector: shard.query(request(vector, DEPTH, rescored=True))


def _faiss(codes: Any, index: RowsIndex) -> Search:
    parameters = faiss.SearchParametersIVF(nprobe=PROBED)

    def search(vector: Vectors) -> object:
        _, found = codes.search(vector[None], CANDIDATES, params=parameters)
        rows = np.sort(found[0])
        scores = index.serving().vectors_of(rows) @ vector
        return rows[np.argsort(-scores)[:DEPTH]]

    return search
