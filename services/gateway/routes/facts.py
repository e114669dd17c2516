"""/v1/facts: curated answers to canonical questions go in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field, StringConstraints

from services.gateway.bodies import Collection, Identifier, Instant, Strict, documented
from services.gateway.caller import Ingesting
from services.gateway.context import Using
from services.gateway.intake import Door, receive
from services.gateway.refusals import refuses
from services.gateway.shapes import Taken, gives
from services.gateway.uploads import FACT_SUFFIXES

router = APIRouter(tags=["facts"])

Words = Annotated[str, StringConstraints(min_length=1)]


class Fact(Strict):
    """One answer to a canonical question, valid over a span."""

    question_id: Identifier | None = None
    question: Words
    answer: Words
    also_accepted: list[str] | None = None
    phrasings: list[str] | None = Field(default=None, description="Other texts that ask the question.")
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    source: str | None = None
    recorded_at: Instant | None = None


class FactsRequest(Strict):
    collection: Collection = "default"
    facts: Annotated[list[Fact], Field(min_length=1)]
    history: bool = False


class FactsForm(Strict):
    """The fields beside the file."""

    collection: Collection = "default"
    history: bool = False


_DOOR = Door("facts", FactsRequest, FactsForm, FACT_SUFFIXES)


_GIVEN = {
    "collection": "notes",
    "facts": [{"question": "Who is harbour master?", "answer": "Ada Lund", "valid_from": "1912-04-01"}],
}


@router.post(
    "/v1/facts",
    status_code=202,
    openapi_extra=documented(FactsRequest, _GIVEN, FactsForm),
    responses={**refuses(409), **gives(Taken, 202)},
)
async def add(request: Request, using: Using, caller: Ingesting) -> JSONResponse:
    """Take facts in, as JSON or as a .jsonl file (multipart, part named `files`)."""
    return await receive(request, using, caller, _DOOR)
