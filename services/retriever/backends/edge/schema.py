"""What a shard holds: its vectors by the generation's funnel, and its payload indexes.

The full vectors lie cold on disk and only rescore; what chooses (codes, graph, moments) is small and stays in memory.
"""

from __future__ import annotations

import numpy as np
import qdrant_edge as qe

from services.common.errors import InvalidRequest
from services.common.nodes.funnel import Funnel, Quantization
from services.common.nodes.retriever import Vectors
from services.retriever.backends.base import Definition

DENSE, COARSE, LEXICAL = "dense", "coarse", "lexical"
INTEGERS = ("valid_from", "valid_to", "recorded_from", "recorded_to")

_M, _EF_CONSTRUCT = 16, 100
_PAYLOAD_M = 8
"""Links of a node inside a payload's subgraph: half as many hold it together, and take half the room."""
_CODES_BELOW = 10_000
"""Up to how many points the engine expects to pass, it scans their codes instead of walking the graph."""
_FLOAT = 4
_ALL = 1 << 34
"""A segment of any size, in KB: a build makes one of all there are."""


def chooses(funnel: Funnel) -> str:
    """The vector through which candidates are found."""
    return COARSE if funnel.dimensions else DENSE


def coarse(vectors: Vectors, definition: Definition) -> Vectors:
    """The first dimensions, rotated before if the generation is. float32, shape (n, dimensions); not normalised."""
    if definition.basis is not None:
        return np.asarray(vectors @ definition.basis.T, dtype=np.float32)
    return vectors[:, : definition.funnel.dimensions]


def codes_below(funnel: Funnel) -> int:
    """Up to how many passing points are scanned by their codes; fewer than any where there are no codes."""
    return _CODES_BELOW if funnel.coarse else 0


def config(funnel: Funnel, dimensions: int) -> qe.EdgeConfig:
    """dimensions: of the full vectors, 0 for a shard without. Raises InvalidRequest where the funnel asks for more.

    No write-ahead log: what `flush` has not made durable is sent again, for no watermark covers it; and a log would
    keep what was deleted.
    """
    if dimensions and funnel.dimensions > dimensions:
        raise InvalidRequest(f"the funnel keeps {funnel.dimensions} dimensions of vectors that have {dimensions}")
    return qe.EdgeConfig(
        vectors=_vectors(funnel, dimensions) if dimensions else None,
        sparse_vectors={LEXICAL: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf, memory=qe.Memory.Cached)},
        optimizers=qe.EdgeOptimizersConfig(
            deleted_threshold=0.0001,
            vacuum_min_vector_number=1,
            default_segment_number=1,
            max_segment_size=_ALL,
            indexing_threshold=1,
        ),
        wal_enabled=False,
    )


def index_payload(shard: qe.EdgeShard) -> None:
    """Pinned, for a search asks each of them about every node it passes: mapped from files they take ten times as long.

    Moments are compared and never looked up. They get links of their own in the graph, as tenants and collections do:
    without them the graph falls apart where few points pass (at 10 %, recall@10 was 0.16 instead of 1.0).
    """
    pinned = qe.Memory.Pinned
    keywords = {
        "tenant": qe.KeywordIndexParams(is_tenant=True, memory=pinned),
        "collection": qe.KeywordIndexParams(memory=pinned),
        "target": qe.KeywordIndexParams(enable_hnsw=False, memory=pinned),
        "metadata": qe.KeywordIndexParams(enable_hnsw=False, memory=qe.Memory.Cached),
    }
    for field, keyword in keywords.items():
        shard.update(qe.UpdateOperation.create_field_index(field, keyword))
    integer = qe.IntegerIndexParams(lookup=False, range=True, memory=pinned)
    for field in INTEGERS:
        shard.update(qe.UpdateOperation.create_field_index(field, integer))


def _vectors(funnel: Funnel, dimensions: int) -> dict[str, qe.EdgeVectorParams]:
    held = {DENSE: dimensions} | ({COARSE: funnel.dimensions} if funnel.dimensions else {})
    return {name: _params(name, size, funnel) for name, size in held.items()}


def _params(name: str, size: int, funnel: Funnel) -> qe.EdgeVectorParams:
    searched = name == chooses(funnel)
    quantized = funnel.quantization is not Quantization.NONE
    return qe.EdgeVectorParams(
        size,
        qe.Distance.Cosine,
        memory=qe.Memory.Cached if searched and not quantized else qe.Memory.Cold,
        quantization_config=_quantization(funnel.quantization) if searched else None,
        hnsw_config=qe.HnswIndexConfig(
            m=_M if searched else 0,
            payload_m=_PAYLOAD_M if searched else 0,
            ef_construct=_EF_CONSTRUCT,
            full_scan_threshold=_CODES_BELOW * size * _FLOAT // 1024,
            memory=qe.Memory.Pinned,
        ),
    )


def _quantization(
    kind: Quantization,
) -> qe.BinaryQuantizationConfig | qe.ScalarQuantizationConfig | None:
    if kind is Quantization.BINARY:
        # Queries in eight bits: no byte more is stored, and half as many candidates hold the best.
        eight = qe.BinaryQuantizationQueryEncoding.Scalar8Bits
        return qe.BinaryQuantizationConfig(memory=qe.Memory.Pinned, query_encoding=eight)
    if kind is Quantization.INT8:
        return qe.ScalarQuantizationConfig(qe.ScalarType.Int8, memory=qe.Memory.Pinned)
    return None
