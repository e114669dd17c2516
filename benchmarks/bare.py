"""The engines' own searches without a moment, a tenant or an index around them: what the funnel is compared with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from services.common.nodes.retriever import Vectors
from services.retriever.backends.edge.graph import GRAPH, LISTS, Graph, request
from services.retriever.backends.rows.build import COARSE
from services.retriever.backends.rows.index import RowsIndex

DEPTH, CANDIDATES, PROBED = 10, 300, 32

Search = Callable[[Vectors], object]


def bare_search(index: RowsIndex, backend: str) -> Search:
    """Of one vector: its ten nearest among the built rows, of as many candidates as the index takes."""
    (path,) = index.serving().directory.glob(f"index-*{COARSE}")
    if backend != "edge":
        return _faiss(path, index)
    return _edge(path) if (path / GRAPH).exists() else _faiss(path / LISTS, index)


def _edge(path: Path) -> Search:
    """The engine rescores by the halves that it has itself."""
    shard = Graph(path).shard
    return lambda vector: shard.query(request(vector, DEPTH, rescored=True))


def _faiss(path: Path, index: RowsIndex) -> Search:
    codes = faiss.read_index(str(path))
    faiss.extract_index_ivf(codes).nprobe = PROBED

    def search(vector: Vectors) -> object:
        _, found = codes.search(vector[None], CANDIDATES)
        rows = np.sort(found[0])
        scores = index.serving().vectors_of(rows) @ vector
        return rows[np.argsort(-scores)[:DEPTH]]

    return search
