"""The coarse index of Qdrant Edge: a graph over binary or one-byte codes, and lists beside it for narrow searches.

The engine asks each condition of a filter about every node it passes, some thousands a search, which costs several
times the search itself. So the graph is searched without any, for more candidates the fewer rows are allowed, and what
is not allowed is left out of what it found. Where few are allowed FAISS's lists of one-bit codes are looked through:
comparing the signs alone of 2,000 rows had a recall@10 of 0.978, and of 50,000 took four times as long. They serve
every search where a graph over one-bit codes would be too large to find the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import qdrant_edge as qe

from services.common.nodes.funnel import Funnel, Quantization
from services.common.nodes.retriever import Vectors
from services.retriever.backends.base import Definition
from services.retriever.backends.faiss.coarse import Codes, make
from services.retriever.backends.rows.bits import Bits
from services.retriever.backends.rows.coarse import projected
from services.retriever.backends.rows.lookup import Rows

_VECTOR = "coarse"
_M, _EF_CONSTRUCT, _EF = 16, 100, 64
_LISTS_BELOW, _EXACT_BELOW = 0.7, 0.1
"""Shares of allowed rows below which lists are looked through, or where there are none full vectors compared."""
_GRAPH_ROWS = 250_000
"""Rows with one-bit codes up to which a graph is made: of 200,000 it has a recall@10 of 0.989, of a million 0.897;
lists have 0.998, in half the time, and are made in a ninth of it."""
_MORE = 1.2
"""Candidates for each that must be allowed: the allowed are not spread evenly."""
_ALL = 1 << 34
"""A segment of any size, in KB: a build makes one of all there are."""
_BLOCK = 1_024
GRAPH, LISTS, _KIND = "graph", "lists.faiss", "ivf"


@dataclass(frozen=True, slots=True)
class EdgeKind:
    """Builds are made anew: the engine indexes what is written since as if it were all."""

    name: str = "edge"
    module: str = __name__
    option: str = ""
    unbuilt_share: float = 0.1

    def read(self, path: Path) -> Graph | Codes:
        return Graph(path) if (path / GRAPH).exists() else Codes.read(path / LISTS, _KIND)


def write(path: Path, previous: Path | None, definition: Definition, vectors: Vectors, option: str) -> None:
    """What the builder process calls."""
    path.mkdir()
    binary = definition.funnel.quantization is Quantization.BINARY
    if binary:
        faiss.write_index(make(_KIND, definition, vectors), str(path / LISTS))
    if not binary or len(vectors) <= _GRAPH_ROWS:
        _write_graph(path / GRAPH, definition, vectors)


def _write_graph(path: Path, definition: Definition, vectors: Vectors) -> None:
    """The shard's own vectors are halves: only its codes are searched."""
    path.mkdir()
    funnel = definition.funnel
    shard = qe.EdgeShard.create(str(path), config(funnel, funnel.dimensions or vectors.shape[1]))
    for start in range(0, len(vectors), _BLOCK):
        rows = projected(vectors[start : start + _BLOCK], definition)
        points = [qe.Point(row, {_VECTOR: held}, {}) for row, held in enumerate(rows.tolist(), start)]
        shard.update(qe.UpdateOperation.upsert_points(points))
    shard.optimize()
    shard.flush()
    shard.close()


def config(funnel: Funnel, dimensions: int) -> qe.EdgeConfig:
    """Nothing is pinned: what is mapped opens at once. No write-ahead log: a build is whole or not there."""
    graph = qe.HnswIndexConfig(
        m=_M, payload_m=0, ef_construct=_EF_CONSTRUCT, full_scan_threshold=1, memory=qe.Memory.Cached
    )
    vector = qe.EdgeVectorParams(
        dimensions,
        qe.Distance.Cosine,
        datatype=qe.VectorStorageDatatype.Float16,
        memory=qe.Memory.Cached if funnel.quantization is Quantization.NONE else qe.Memory.Cold,
        quantization_config=_quantization(funnel.quantization),
        hnsw_config=graph,
    )
    optimizers = qe.EdgeOptimizersConfig(default_segment_number=1, max_segment_size=_ALL, indexing_threshold=1)
    return qe.EdgeConfig(vectors={_VECTOR: vector}, optimizers=optimizers, wal_enabled=False)


def _quantization(kind: Quantization) -> qe.BinaryQuantizationConfig | qe.ScalarQuantizationConfig | None:
    if kind is Quantization.BINARY:
        # Queries in eight bits: no byte more is stored, and half as many candidates hold the best.
        eight = qe.BinaryQuantizationQueryEncoding.Scalar8Bits
        return qe.BinaryQuantizationConfig(memory=qe.Memory.Cached, query_encoding=eight)
    if kind is Quantization.INT8:
        return qe.ScalarQuantizationConfig(qe.ScalarType.Int8, memory=qe.Memory.Cached)
    return None


class Graph:
    """A built index, its ids rows [0, rows)."""

    def __init__(self, path: Path) -> None:
        self.shard = qe.EdgeShard.load(str(path / GRAPH))
        self.rows = int(self.shard.info().points_count)
        lists = path / LISTS
        self._lists = Codes.read(lists, _KIND) if lists.exists() else None
        self.allocated = self._lists.allocated if self._lists else 0

    def method(self, passing: int) -> str:
        lists = self._lists_for(passing)
        if lists is not None:
            return lists.method(passing)
        return "graph" if passing >= _EXACT_BELOW * self.rows else "exact"

    def search(self, vectors: Vectors, allowed: Bits, wanted: int) -> tuple[Rows, Vectors]:
        passing = len(allowed)
        lists = self._lists_for(passing)
        if lists is not None:
            return lists.search(vectors, allowed, wanted)
        ids, scores = self._by_graph(vectors, allowed, wanted, math.ceil(_MORE * wanted * self.rows / passing))
        (short,) = np.nonzero((ids < 0).any(axis=1))
        if len(short) and self._lists is not None:
            ids[short], scores[short] = self._lists.search(vectors[short], allowed, wanted)
        return ids, scores

    def close(self) -> None:
        self.shard.close()

    def _lists_for(self, passing: int) -> Codes | None:
        """To be looked through where so few rows are allowed; None where the graph serves, or there are no lists."""
        return self._lists if passing < _LISTS_BELOW * self.rows else None

    def _by_graph(self, vectors: Vectors, allowed: Bits, wanted: int, limit: int) -> tuple[Rows, Vectors]:
        requests = [request(vector, min(limit, self.rows), rescored=False) for vector in vectors]
        ids = np.full((len(vectors), wanted), -1, np.int64)
        scores = np.zeros((len(vectors), wanted), np.float32)
        for at, points in enumerate(self.shard.query_batch(qe.QueryBatchRequest(requests))):
            found = np.array([(point.id, point.score) for point in points], np.float64).reshape(-1, 2)
            kept = found[allowed.holds(found[:, 0].astype(np.int64))][:wanted]
            ids[at, : len(kept)], scores[at, : len(kept)] = kept.T
        return ids, scores


def request(vector: Vectors, limit: int, rescored: bool) -> qe.QueryRequest:
    """The engine's own search without a filter. rescored: by the shard's vectors, of as many candidates as ours."""
    quantization = qe.QuantizationSearchParams(rescore=rescored, oversampling=300 / limit if rescored else None)
    params = qe.SearchParams(hnsw_ef=_EF, quantization=quantization)
    return qe.QueryRequest(limit, query=qe.Query.Nearest(vector.tolist(), using=_VECTOR), params=params)
