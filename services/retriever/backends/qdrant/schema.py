"""How a generation's funnel becomes the vectors and indexes of a Qdrant collection.

The full vectors lie on disk and only rescore where something coarser chooses; codes and graphs stay in memory. Graphs
are made for each tenant and none for all of them together, so that a small tenant's search meets no large one's points.
"""

from __future__ import annotations

from qdrant_client import models

from services.common.errors import InvalidRequest
from services.common.nodes.funnel import Funnel, Quantization
from services.retriever.backends.qdrant.server import Server
from services.retriever.backends.qdrant.vectors import COARSE, DENSE, LEXICAL, chooses
from services.retriever.visibility import INTEGERS

_PAYLOAD_M, _EF_CONSTRUCT = 16, 100
"""Qdrant's defaults, of the tenants' graphs."""


def create(server: Server, name: str, funnel: Funnel, dimensions: int) -> None:
    """Make the collection with its payload indexes. Raises InvalidRequest where the funnel keeps more dimensions."""
    if funnel.dimensions > dimensions:
        raise InvalidRequest(f"the funnel keeps {funnel.dimensions} dimensions of vectors that have {dimensions}")
    held = {DENSE: dimensions} | ({COARSE: funnel.dimensions} if funnel.dimensions else {})
    with server.reached():
        server.client.create_collection(
            name,
            {vector: _vector(vector, size, funnel) for vector, size in held.items()},
            {LEXICAL: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            shard_number=server.shards,
            replication_factor=server.replicas,
            write_consistency_factor=server.acknowledging,
            on_disk_payload=True,
        )
        if not server.local:
            _index_payload(server, name)


def _index_payload(server: Server, name: str) -> None:
    """Moments are compared and never looked up; only tenants have graphs of their own."""
    keyword, integer = models.KeywordIndexType.KEYWORD, models.IntegerIndexType.INTEGER
    tenant = models.KeywordIndexParams(type=keyword, is_tenant=True)
    server.client.create_payload_index(name, "tenant", tenant, wait=True)
    for field in ("collection", "target", "metadata", "doc_id"):
        plain = models.KeywordIndexParams(type=keyword, enable_hnsw=False)
        server.client.create_payload_index(name, field, plain, wait=True)
    for field in INTEGERS:
        ranges = models.IntegerIndexParams(type=integer, lookup=False, range=True, enable_hnsw=False)
        server.client.create_payload_index(name, field, ranges, wait=True)


def dimensions(server: Server, name: str) -> int | None:
    """The full vectors' dimensions, None where the collection was not made yet."""
    with server.reached():
        if not server.client.collection_exists(name):
            return None
        vectors = server.client.get_collection(name).config.params.vectors
    assert isinstance(vectors, dict)
    return vectors[DENSE].size


def _vector(name: str, size: int, funnel: Funnel) -> models.VectorParams:
    searched = name == chooses(funnel)
    return models.VectorParams(
        size=size,
        distance=models.Distance.COSINE,
        on_disk=not searched or funnel.quantization is not Quantization.NONE,
        hnsw_config=models.HnswConfigDiff(
            m=0, payload_m=_PAYLOAD_M if searched else 0, ef_construct=_EF_CONSTRUCT, on_disk=False
        ),
        quantization_config=_quantization(funnel.quantization) if searched else None,
    )


def _quantization(kind: Quantization) -> models.QuantizationConfig | None:
    if kind is Quantization.BINARY:
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    if kind is Quantization.INT8:
        int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        return models.ScalarQuantization(scalar=int8)
    return None
