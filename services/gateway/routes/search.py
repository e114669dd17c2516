"""/v1/search: passages as they stood at a moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from services.common.nodes.scope import Scope
from services.gateway.asking import Asked, Pinned, check_text, pin
from services.gateway.bodies import Collection, Filters, Strict, documented, read_json
from services.gateway.context import Using
from services.orchestrator.graph.answer import iso, moment_json
from services.orchestrator.graph.search import Found, SearchHit, search

router = APIRouter(tags=["search"])


class SearchRequest(Strict):
    query: str
    collection: Collection = "default"
    as_of: str | None = None
    known_at: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    filters: Filters = Field(default_factory=dict)


@router.post("/v1/search", openapi_extra=documented(SearchRequest))
async def find(request: Request, using: Using) -> Mapping[str, Any]:
    """The best passages, best first, each with the span over which it is valid."""
    body = await read_json(request, SearchRequest, using.settings.max_body_bytes)
    text = check_text(body.query, using.settings.max_question_chars, "query")
    pinned = await pin(using, Asked(text, body.collection, body.as_of, body.known_at))
    scope = Scope(using.settings.tenant, body.collection, pinned.generation.name, pinned.moment)
    found = await search(using.nodes, pinned.generation, scope, text, body.limit, body.filters)
    return _found_json(found, pinned)


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
        "valid_from": iso(located.extent.valid.start),
        "valid_to": iso(located.extent.valid.end),
        "recorded_from": iso(located.extent.recorded.start),
        "dated": located.dated,
    }
