"""A passage or question as the engine holds it, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import qdrant_edge as qe

from services.common.moment import Extent, Span
from services.common.nodes.retriever import Point, Vectors
from services.retriever.backends.base import Candidate, Definition
from services.retriever.backends.qdrant.vectors import COARSE, DENSE, coarse
from services.retriever.visibility import INTEGERS, pair

RETURNED = ["item_id", "doc_id", "tenant", "collection", *INTEGERS]


def engine_id(tenant: str, collection: str, point_id: str) -> str:
    """The engine takes UUIDs only, and one tenant's ids must not meet another's."""
    name = "\0".join((tenant, collection, point_id)).encode()
    return str(UUID(bytes=hashlib.blake2b(name, digest_size=16).digest()))


def dense_vectors(vectors: Vectors, definition: Definition) -> list[dict[str, Any]]:
    """The named dense vectors of each point. vectors: float32, shape (n, dimensions)."""
    full = vectors.tolist()
    if not definition.funnel.dimensions:
        return [{DENSE: row} for row in full]
    cut = coarse(vectors, definition).tolist()
    return [{DENSE: row, COARSE: short} for row, short in zip(full, cut, strict=True)]


def payload(tenant: str, collection: str, point: Point) -> dict[str, object]:
    return {
        "tenant": tenant,
        "collection": collection,
        "target": point.target.value,
        "point_id": point.point_id,
        "item_id": point.item_id,
        "doc_id": point.doc_id,
        "valid_from": point.extent.valid.start,
        "valid_to": point.extent.valid.end,
        "recorded_from": point.extent.recorded.start,
        "recorded_to": point.extent.recorded.end,
        "metadata": [pair(key, value) for key, value in point.metadata.items()],
    }


def extent(held: Mapping[str, Any]) -> Extent:
    return Extent(Span(held["valid_from"], held["valid_to"]), Span(held["recorded_from"], held["recorded_to"]))


def best_items(points: Sequence[qe.ScoredPoint]) -> list[Candidate]:
    """Each item once, by the best of its points; best first, ties by item id."""
    best: dict[str, Candidate] = {}
    for point in points:
        held = point.payload or {}
        if held["item_id"] not in best:
            best[held["item_id"]] = _candidate(held, point.score)
    return sorted(best.values(), key=lambda found: (-found.score, found.item_id))


def _candidate(held: Mapping[str, Any], score: float) -> Candidate:
    return Candidate(held["item_id"], held["doc_id"], held["tenant"], held["collection"], extent(held), score)
