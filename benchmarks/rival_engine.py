"""Qdrant Edge alone: one shard, built, asked with one query of two prefetches and the engine's own fusion."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Any

import qdrant_edge as qe

from benchmarks.threaded import Search, serve, written

_DEPTH, _BEST = 100, 10
_BATCH = 512


def main(directory: Path) -> None:
    texts, vectors = written(directory)
    bm25 = qe.Bm25()
    shard = _shard(directory / "shard", vectors.shape[1])
    for start in range(0, len(texts), _BATCH):
        part = slice(start, start + _BATCH)
        rows = [
            qe.Point(str(uuid.uuid4()), {"dense": vector, "lexical": bm25.embed_document(text)}, {"item": place})
            for place, text, vector in zip(range(start, len(texts)), texts[part], vectors[part].tolist(), strict=False)
        ]
        shard.update(qe.UpdateOperation.upsert_points(rows))
    shard.optimize()
    serve(directory, _search(shard, bm25))


def _shard(directory: Path, dimensions: int) -> qe.EdgeShard:
    directory.mkdir()
    config = qe.EdgeConfig(
        vectors={"dense": qe.EdgeVectorParams(dimensions, qe.Distance.Cosine)},
        sparse_vectors={"lexical": qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
    )
    return qe.EdgeShard.create(str(directory), config)


def _search(shard: qe.EdgeShard, bm25: qe.Bm25) -> Search:
    def search(text: str, vector: list[float]) -> object:
        stages = [
            qe.Prefetch(limit=_DEPTH, query=qe.Query.Nearest(vector, using="dense")),
            qe.Prefetch(limit=_DEPTH, query=qe.Query.Nearest(bm25.embed_query(text), using="lexical")),
        ]
        fused: Any = qe.Fusion.Dbsf()  # the stubs do not know that it is a Fusion
        return shard.query(qe.QueryRequest(_BEST, prefetches=stages, query=fused, with_payload=True))

    return search


if __name__ == "__main__":
    main(Path(sys.argv[1]))
