"""/v1/search: passages as they stood at a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from services.common.nodes.scope import Scope
from services.gateway.asking import Asked, Pinned, check_text, pin
from services.gateway.bodies import Collection, Filters, Strict, documented, read_json
from services.gateway.caller import Asking, Caller
from services.gateway.context import Context, Using
from services.gateway.refusals import ANSWERS
from services.orchestrator.graph.answer import iso, moment_json
from services.orchestrator.graph.search import Found, SearchHit, search

router = APIRouter(tags=["search"])


class FeatureBody(BaseModel):
    """What is known of the document at the moment, and what that weighs: weight × value is part of the score."""

    name: str
    value: float
    weight: float


class SearchHitBody(BaseModel):
    """A passage, where it stands, and how it was found. Offsets and ranks: into the version's text; from 1.

    score: of the fusion, and what features weigh; its rank is `n`. dense: a cosine. lexical: a BM25 score. Null where a
    stage did not find it. features: of the document, only where an explanation was asked for.
    """

    n: int
    passage_id: str
    doc_id: str
    version_id: str
    title: str
    uri: str
    text: str
    section: list[str]
    page: int | None
    start: int
    end: int
    score: float
    dense: float | None
    lexical: float | None
    dense_rank: int | None
    lexical_rank: int | None
    valid_from: str | None
    valid_to: str | None
    recorded_from: str | None
    dated: bool
    features: list[FeatureBody] | None = None


class StageBody(BaseModel):
    """What one stage of the retriever did: its method, how many points it expected to pass of how many, its time."""

    name: str
    method: str
    passing: int
    points: int
    ms: float


class Explanation(BaseModel):
    """The index generation that was searched, its funnel, and the retriever's stages in order."""

    generation: str
    encoder: str
    dimensions: int
    funnel: dict[str, Any]
    stages: list[StageBody]


class SearchAnswer(BaseModel):
    """timings_ms: of the steps `encode`, `retrieve` and, if taken, `rank`. explain: only where it was asked for."""

    moment: dict[str, str]
    generation: str
    degraded: list[str]
    hits: list[SearchHitBody]
    timings_ms: dict[str, float]
    explain: Explanation | None = None


class SearchRequest(Strict):
    query: str
    collection: Collection = "default"
    as_of: str | None = None
    known_at: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    filters: Filters = Field(default_factory=dict)
    explain: bool = Field(False, description="Tell how each hit was found: scores, ranks, stages, generation.")


_SEARCHED = {"query": "harbour", "collection": "notes", "as_of": "1920-01-01", "limit": 5, "explain": True}


@router.post(
    "/v1/search",
    openapi_extra=documented(SearchRequest, _SEARCHED),
    responses={**ANSWERS, 200: {"model": SearchAnswer}},
)
async def find(request: Request, using: Using, caller: Asking) -> Mapping[str, Any]:
    """The best passages, best first, each with the span over which it is valid."""
    return await searched(using, caller, await read_json(request, SearchRequest, using.settings.max_body_bytes))


async def searched(context: Context, caller: Caller, body: SearchRequest) -> Mapping[str, Any]:
    """A SearchAnswer as JSON; the search is counted. Raises what `check_text`, `pin` and the nodes raise."""
    text = check_text(body.query, context.settings.max_question_chars, "query")
    pinned = await pin(context, caller, Asked(text, body.collection, body.as_of, body.known_at))
    scope = Scope(caller.tenant, body.collection, pinned.generation.name, pinned.moment)
    weights = context.settings.rank_weights
    found = await search(context.nodes, pinned.generation, scope, text, body.limit, body.filters, weights, body.explain)
    documents = list(dict.fromkeys(hit.located.doc_id for hit in found.hits))
    context.searches.note(caller.tenant, body.collection, documents)
    answer = _found_json(found, pinned)
    return {**answer, **_explained(found, pinned)} if body.explain else answer


def _explained(found: Found, pinned: Pinned) -> dict[str, Any]:
    hits = [
        {**_hit_json(n, hit), "features": [asdict(feature) for feature in hit.features]}
        for n, hit in enumerate(found.hits, start=1)
    ]
    return {"hits": hits, "explain": _explanation(found, pinned)}


def _explanation(found: Found, pinned: Pinned) -> dict[str, Any]:
    generation = pinned.generation
    return {
        "generation": generation.name,
        "encoder": generation.encoder,
        "dimensions": generation.dimensions,
        "funnel": generation.funnel.to_json(),
        "stages": [{**asdict(stage), "ms": round(stage.ms, 3)} for stage in found.plan],
    }


def _found_json(found: Found, pinned: Pinned) -> dict[str, Any]:
    return {
        "moment": moment_json(pinned.moment),
        "generation": pinned.generation.name,
        "degraded": found.degraded,
        "hits": [_hit_json(n, hit) for n, hit in enumerate(found.hits, start=1)],
        "timings_ms": found.timings_ms,
    }


def _hit_json(n: int, found: SearchHit) -> dict[str, Any]:
    located, hit = found.located, found.hit
    return {
        "n": n,
        "passage_id": located.passage_id,
        "doc_id": located.doc_id,
        "version_id": located.version_id,
        "title": located.title,
        "uri": located.uri,
        "text": located.text,
        "section": list(located.section),
        "page": located.page(located.start),
        "start": located.start,
        "end": located.end,
        "score": hit.score,
        "dense": hit.dense,
        "lexical": hit.lexical,
        "dense_rank": hit.dense_rank,
        "lexical_rank": hit.lexical_rank,
        "valid_from": iso(located.extent.valid.start),
        "valid_to": iso(located.extent.valid.end),
        "recorded_from": iso(located.extent.recorded.start),
        "dated": located.dated,
    }
