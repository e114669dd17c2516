"""What the main routes give, for the OpenAPI document: told, not enforced, for old answers lack what is newer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from services.gateway.refusals import EVENTS, Responses
from services.orchestrator.graph.answer import Grounding


class CitationBody(BaseModel):
    """A quote and where it stands: `quote` is exactly the version's text at [start, end). Open ends are null."""

    n: int
    kind: str
    doc_id: str
    version_id: str
    passage_id: str
    title: str
    uri: str
    quote: str
    start: int
    end: int
    valid_from: str | None
    valid_to: str | None
    recorded_from: str | None
    score: float
    dated: bool = True
    page: int | None = None
    section: list[str] = []


class AnswerBody(BaseModel):
    """An answer, its citations, its moment, and what was lost on the way to it (`degraded`)."""

    id: str
    question: str
    collection: str
    answer: str
    citations: list[CitationBody]
    moment: dict[str, str]
    grounding: Grounding
    degraded: list[str]
    timings_ms: dict[str, float]
    usage: dict[str, int]
    models: dict[str, str]
    generation: str
    exact: bool = True
    retrieved: list[str] = []
    similarity: float | None = None
    trace_id: str = ""
    trace: list[dict[str, Any]] = []
    basis: dict[str, Any] = {}
    moment_from: str = ""
    moment_phrase: str = ""
    original: str = ""
    cached_from: str = ""


class UsedBody(BaseModel):
    """One tenant's day (UTC)."""

    tenant: str
    day: str
    answers: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    encoder_texts: int
    engine_ms: int
    cached: int
    saved_tokens: int
    saved_texts: int
    saved_ms: int
    searches: int


class UsageBody(BaseModel):
    """What tenants used, day after day."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "usage": [
                    {
                        "tenant": "acme",
                        "day": "2026-11-21",
                        "answers": 40,
                        "failed": 1,
                        "prompt_tokens": 7_200,
                        "completion_tokens": 610,
                        "encoder_texts": 540,
                        "engine_ms": 31_000,
                        "cached": 6,
                        "saved_tokens": 1_300,
                        "saved_texts": 96,
                        "saved_ms": 5_100,
                        "searches": 12,
                    }
                ]
            }
        }
    )

    usage: list[UsedBody]


class JobBody(BaseModel):
    """A job and how far it is: `done` of `total` rows, where that is known."""

    id: str
    kind: str
    collection: str
    state: str
    total: int | None
    done: int
    counts: dict[str, int]
    rate: dict[str, float] | None
    eta_seconds: float | None
    failures: list[Any]
    error: str | None
    note: str = ""
    attempts: int
    created_at: str
    started_at: str | None
    updated_at: str | None


class Taken(BaseModel):
    """What was asked for is done by a job."""

    job: JobBody


def gives(model: type[BaseModel], status: int = 200) -> Responses:
    """That a route gives this."""
    return {status: {"model": model}}


def streams(model: type[BaseModel]) -> Responses:
    """That a route gives this, or server-sent events."""
    return {200: {**EVENTS[200], "model": model}}
