"""/v1/answers/…: one question at several moments, its answers over time, and an answer given again as recorded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from services.catalog import answers
from services.common.rpc.deadlines import deadline
from services.gateway.asking import Asked, open_question, pinned_question, require_tokens
from services.gateway.bodies import Collection, Filters, Instant, Strict, documented, read_json
from services.gateway.caller import Asking, Caller, Hold, Queueing
from services.gateway.context import Context, Using
from services.gateway.listening import charge, collect
from services.gateway.parameters import AnswerId
from services.gateway.refusals import ANSWERS, refuses
from services.orchestrator.graph.answer import iso, moment_json
from services.orchestrator.graph.chronicle import Entry, chronicle
from services.orchestrator.graph.comparing import changes
from services.orchestrator.graph.executor import together
from services.orchestrator.graph.replaying import Replay, replay

router = APIRouter(tags=["answers"])

AT_ONCE = 4
"""Of the answers of one comparison."""


class At(Strict):
    as_of: Instant
    known_at: Instant | None = None


class CompareRequest(Strict):
    question: str
    collection: Collection = "default"
    at: Annotated[list[At], Field(min_length=2, max_length=8)]
    filters: Filters = Field(default_factory=dict)
    generate: bool = True


class TimelineRequest(Strict):
    question: str
    collection: Collection = "default"
    known_at: str | None = None
    filters: Filters = Field(default_factory=dict)


_ASKED = {"question": "When did the harbour open?", "collection": "notes"}
_COMPARED = {**_ASKED, "at": [{"as_of": "1920-01-01"}, {"as_of": "1960-01-01"}]}


@router.post("/v1/answers/compare", openapi_extra=documented(CompareRequest, _COMPARED), responses=ANSWERS)
async def compare(request: Request, using: Using, caller: Asking, queueing: Queueing) -> Mapping[str, Any]:
    """Answer a question at two to eight moments, and say from each to the next what changed."""
    body = await read_json(request, CompareRequest, using.settings.max_body_bytes)
    return await compared(using, caller, body, request, queueing)


async def compared(
    context: Context, caller: Caller, body: CompareRequest, request: Request, queueing: Hold
) -> Mapping[str, Any]:
    """The answers as JSON, and the changes. Raises what `queueing`, `open_question` and `collect` raise."""
    asked = [
        Asked(body.question, body.collection, at.as_of, at.known_at, body.filters, body.generate) for at in body.at
    ]
    for _ in asked:
        await queueing()
    questions = [await open_question(context, caller, one) for one in asked]
    given = await together((partial(collect, context, question, request) for question in questions), AT_ONCE)
    return {"question": questions[0].text, "collection": body.collection, "answers": given, "changes": changes(given)}


@router.post("/v1/answers/timeline", openapi_extra=documented(TimelineRequest, _ASKED), responses=ANSWERS)
async def timeline(request: Request, using: Using, caller: Asking, queueing: Queueing) -> Mapping[str, Any]:
    """Every distinct answer to a question with the span over which it was the answer. Documents are quoted."""
    body = await read_json(request, TimelineRequest, using.settings.max_body_bytes)
    return await traced(using, caller, body, queueing)


async def traced(context: Context, caller: Caller, body: TimelineRequest, queueing: Hold) -> Mapping[str, Any]:
    """The answers over time as JSON. Raises what `queueing`, `pinned_question` and the nodes raise."""
    await queueing()
    asked = Asked(body.question, body.collection, None, body.known_at, body.filters, generate=False)
    question = await pinned_question(context, caller, asked)
    with deadline(context.settings.answer_seconds):
        found = await chronicle(context.nodes, question)
    return {
        "question": question.text,
        "collection": body.collection,
        "known_at": iso(question.moment.known_at),
        "complete": found.complete,
        "entries": [_entry_json(entry) for entry in found.entries],
    }


@router.post("/v1/answers/{answer_id}/replay", responses={**ANSWERS, **refuses(409)})
async def again(answer_id: AnswerId, using: Using, caller: Asking, queueing: Queueing) -> Mapping[str, Any]:
    """Give an answer again at its moment and generation, and say whether it is the same; if not, what differs, why."""
    stored = await using.catalog.reading(lambda tx: answers.stored(tx, caller.tenant, answer_id))
    await queueing()
    await require_tokens(using, caller)
    with deadline(using.settings.answer_seconds):
        found = await replay(using.nodes, stored)
    if found.again is not None:
        await charge(using, caller.tenant, caller.key_id, found.again.usage)
    return {"answer_id": answer_id, **_replay_json(found)}


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "valid_from": iso(entry.span.start),
        "valid_to": iso(entry.span.end),
        "answer": entry.answer,
        "citations": [citation.to_json() for citation in entry.citations],
    }


def _replay_json(found: Replay) -> dict[str, Any]:
    return {
        "identical": found.identical,
        "exact": found.exact,
        "overlap": found.overlap,
        "moment": moment_json(found.question.moment),
        "generation": found.generation,
        "differences": [{"what": one.what, "why": one.why, "detail": one.detail} for one in found.differences],
        "answer": found.again.to_json() if found.again is not None else None,
    }
