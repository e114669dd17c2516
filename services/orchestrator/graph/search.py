"""Search: what the retriever finds at a moment, each hit located once more by the catalog."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.catalog.erasing import under_way
from services.catalog.reading import passages_at
from services.catalog.records import Generation, Located
from services.common.errors import MomentViolation
from services.common.nodes.encoder import TextKind
from services.common.nodes.retriever import Hit, Query, Stage, Target
from services.common.nodes.scope import Scope
from services.common.rpc.deadlines import deadline
from services.orchestrator.graph.executor import NodeFailed, calling
from services.orchestrator.graph.nodes import Nodes

Vector = npt.NDArray[np.float32]
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A passage found and where it stands."""

    located: Located
    hit: Hit


@dataclass(frozen=True, slots=True)
class Passages:
    """What the retriever found, best first, and how."""

    hits: list[SearchHit]
    plan: Sequence[Stage] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """plan: the retriever's own stages, all of them within the step `retrieve`."""

    hits: list[SearchHit]
    degraded: list[str]
    timings_ms: dict[str, float]
    plan: Sequence[Stage] = ()


async def search(
    nodes: Nodes,
    generation: Generation,
    scope: Scope,
    text: str,
    limit: int,
    filters: Mapping[str, Sequence[str]],
) -> Found:
    """The best passages at the moment; lexical only, and so marked, while the encoder is down."""
    degraded: list[str] = []
    began = time.perf_counter()
    with deadline(SECONDS):
        try:
            vector = await query_vector(nodes, generation, text)
        except NodeFailed:
            vector = None
            degraded.append("encoder")
        encoded = time.perf_counter()
        try:
            passages = await find_passages(nodes, scope, text, vector, limit, filters)
        except NodeFailed as failure:
            raise failure.error from None
    timings = {
        "encode": round((encoded - began) * 1000, 2),
        "retrieve": round((time.perf_counter() - encoded) * 1000, 2),
    }
    return Found(passages.hits, degraded, timings, passages.plan)


async def query_vector(nodes: Nodes, generation: Generation, text: str) -> Vector:
    """The question's vector by the generation's own encoder, shape (dimensions,)."""
    with calling("encoder"):
        vectors = await nodes.encoder.encode(generation.encoder, TextKind.QUERY, [text])
    return np.asarray(vectors[0], np.float32)


async def find_passages(
    nodes: Nodes, scope: Scope, text: str, vector: Vector | None, limit: int, filters: Mapping[str, Sequence[str]]
) -> Passages:
    """The best passages, best first. Raises MomentViolation if the catalog does not see one of them at the moment."""
    with calling("retriever"):
        found = await nodes.retriever.search(Query(scope, Target.PASSAGES, text, vector, limit, filters))
    located, erasing = await asyncio.to_thread(_locate, nodes, scope, [hit.item_id for hit in found.hits])
    # An erasure takes documents out of the catalog first: the index may still name them for a while.
    hits = [hit for hit in found.hits if hit.doc_id not in erasing]
    strangers = [hit.item_id for hit in hits if hit.item_id not in located]
    if strangers:
        raise MomentViolation(f"the retriever gave {len(strangers)} passages that are not visible at the moment")
    return Passages([SearchHit(located[hit.item_id], hit) for hit in hits], found.plan)


def _locate(nodes: Nodes, scope: Scope, ids: list[str]) -> tuple[dict[str, Located], frozenset[str]]:
    """Where the passages stand, and which documents are being erased."""
    with nodes.catalog.read() as tx:
        located = passages_at(tx, scope.tenant, scope.collection, ids, scope.moment)
        return located, under_way(tx, scope.tenant, scope.collection)
