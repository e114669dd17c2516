"""Search: what the retriever finds at a moment, each hit located once more by the catalog."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

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
from services.orchestrator.graph.executor import calling
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.patience import NodeFailed
from services.orchestrator.graph.ranking import DEPTH, Feature, Weights, features_at, weighed
from services.orchestrator.graph.ranking import SECONDS as RANK_SECONDS

Vector = npt.NDArray[np.float32]
SECONDS = 10.0
APPROXIMATE = ("codes", "graph", "lists")
"""Methods of the retriever's stages that may miss one of the best."""
UNWEIGHED: Weights = MappingProxyType({})


def exhaustive(plan: Sequence[Stage]) -> bool:
    """Whether every allowed point was compared by its full vector, not by a code or along a graph."""
    return not any(stage.method in APPROXIMATE for stage in plan)


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A passage found and where it stands. features: of its document, where they were read."""

    located: Located
    hit: Hit
    features: tuple[Feature, ...] = ()


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
    weights: Weights = UNWEIGHED,
    explain: bool = False,
) -> Found:
    """The best passages at the moment; lexical only, and so marked, while the encoder is down.

    `explain`: read the features of their documents even where none weighs anything.
    """
    degraded: list[str] = []
    began = time.perf_counter()
    patiently = nodes.patience.call
    with deadline(SECONDS + nodes.patience.seconds):
        try:
            vector = await patiently("encoder", partial(query_vector, nodes, generation, text))
        except NodeFailed:
            vector = None
            degraded.append("encoder")
        encoded = time.perf_counter()
        try:
            finding = partial(find_passages, nodes, scope, text, vector, depth(limit, weights), filters)
            passages = await patiently("retriever", finding)
        except NodeFailed as failure:
            raise failure.error from None
        retrieved = time.perf_counter()
        hits, timings = passages.hits, {"encode": _ms(began, encoded), "retrieve": _ms(encoded, retrieved)}
        if weights or explain:
            try:
                hits = await rank_passages(nodes, scope, hits, weights)
            except NodeFailed as failure:
                degraded.append(failure.node)
            timings["rank"] = _ms(retrieved, time.perf_counter())
    return Found(hits[:limit], degraded, timings, passages.plan)


def _ms(began: float, ended: float) -> float:
    return round((ended - began) * 1000, 2)


def depth(limit: int, weights: Weights) -> int:
    """How many passages to find for so many: more where their order may yet change."""
    return max(limit, DEPTH) if weights else limit


async def query_vector(nodes: Nodes, generation: Generation, text: str) -> Vector:
    """The question's vector by the generation's own encoder, shape (dimensions,); kept for the next to ask the same."""

    async def encoded() -> Vector:
        with calling("encoder"):
            vectors = await nodes.encoder.encode(generation.encoder, TextKind.QUERY, [text])
        return np.array(vectors[0], np.float32)

    return await nodes.questions.of(generation.encoder, text, encoded)


async def find_passages(
    nodes: Nodes,
    scope: Scope,
    text: str,
    vector: Vector | None,
    limit: int,
    filters: Mapping[str, Sequence[str]],
    exact: bool = False,
) -> Passages:
    """The best passages, best first. Raises MomentViolation if the catalog does not see one of them at the moment."""
    with calling("retriever"):
        found = await nodes.retriever.search(Query(scope, Target.PASSAGES, text, vector, limit, filters, exact))
    located, erasing = await asyncio.to_thread(_locate, nodes, scope, [hit.item_id for hit in found.hits])
    # An erasure takes documents out of the catalog first: the index may still name them for a while.
    hits = [hit for hit in found.hits if hit.doc_id not in erasing]
    strangers = [hit.item_id for hit in hits if hit.item_id not in located]
    if strangers:
        raise MomentViolation(f"the retriever gave {len(strangers)} passages that are not visible at the moment")
    return Passages([SearchHit(located[hit.item_id], hit) for hit in hits], found.plan)


async def rank_passages(nodes: Nodes, scope: Scope, hits: Sequence[SearchHit], weights: Weights) -> list[SearchHit]:
    """The passages with their documents' features, best first; the score of each is then with what these weigh."""
    with deadline(RANK_SECONDS):
        features = await features_at(nodes, scope, [hit.hit.doc_id for hit in hits], weights)
    ranked = [_weighed(found, features[found.hit.doc_id]) for found in hits]
    return sorted(ranked, key=lambda found: -found.hit.score)


def _weighed(found: SearchHit, features: tuple[Feature, ...]) -> SearchHit:
    return replace(found, hit=replace(found.hit, score=found.hit.score + weighed(features)), features=features)


def _locate(nodes: Nodes, scope: Scope, ids: list[str]) -> tuple[dict[str, Located], frozenset[str]]:
    """Where the passages stand, and which documents are being erased."""
    with nodes.catalog.read() as tx:
        located = passages_at(tx, scope.tenant, scope.collection, ids, scope.moment)
        return located, under_way(tx, scope.tenant, scope.collection)
