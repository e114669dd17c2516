"""/v1/answers: ask a question at a moment, and look up what was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import Field, StrictBool, StringConstraints

from services.catalog import answers, events
from services.catalog.records import check_text
from services.common.errors import InvalidRequest
from services.common.moment import now
from services.gateway.asking import Asked, open_question
from services.gateway.bodies import Collection, Filters, Strict, documented, read_json
from services.gateway.caller import Asking, Queueing, Streaming
from services.gateway.context import Context, Using
from services.gateway.listening import collect, stream
from services.gateway.parameters import AnswerId
from services.gateway.refusals import ANSWERS, EVENTS, Responses, refuses
from services.gateway.resuming import as_sse, named_in, place_in, resume
from services.gateway.shapes import AnswerBody, gives, streams
from services.orchestrator.graph.conversing import Turn

router = APIRouter(tags=["answers"])


LastEventId = Annotated[str, Header(max_length=128, description="The id of the last event that the client has.")]

_RESUMED: Responses = {**EVENTS, 204: {"description": "The client has all of it: it need not come back."}}


class TurnRequest(Strict):
    question: str
    answer: str = ""


class AnswerRequest(Strict):
    question: str
    history: Annotated[list[TurnRequest], Field(max_length=100)] = Field(
        default_factory=list,
        description="What was asked and answered before, for a follow-up to lean on; its last 1,000 tokens are read.",
    )
    collection: Collection = "default"
    as_of: str | None = None
    known_at: str | None = None
    filters: Filters = Field(default_factory=dict)
    stream: bool = False
    generate: bool = True
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    adapter: str = Field("", max_length=128, description="A LoRA adapter of the generator; `/v1/models` names them.")
    exact: bool = Field(False, description="Search exhaustively, whatever the generation's funnel.")


class FeedbackRequest(Strict):
    helpful: StrictBool
    note: Annotated[str, StringConstraints(max_length=1_000)] = ""


_ASKED = {"question": "When did the harbour open?", "collection": "notes", "as_of": "1920-01-01"}


@router.post(
    "/v1/answers",
    response_model=None,
    openapi_extra=documented(AnswerRequest, _ASKED),
    responses={**ANSWERS, **_RESUMED, **streams(AnswerBody)},
)
async def ask(
    request: Request,
    using: Using,
    caller: Asking,
    streaming: Streaming,
    queueing: Queueing,
    last_event_id: LastEventId = "",
) -> Response | Mapping[str, Any]:
    """Answer a question as of a moment; with `stream`, as server-sent events, each with an id to resume from.

    With `stream` and `Last-Event-ID`, nothing is asked: it goes on with the answer that the id names.
    """
    body = await read_json(request, AnswerRequest, using.settings.max_body_bytes)
    _check_tokens(using, body.max_tokens)
    if body.stream:
        await streaming()
        if last_event_id:
            return await resume(using, caller, *named_in(last_event_id), queueing)
    turns = [Turn(turn.question, turn.answer) for turn in body.history]
    asked = Asked(body.question, **body.model_dump(exclude={"question", "history", "stream"}), history=turns)
    question = await open_question(using, caller, asked, queueing)
    return stream(as_sse(using, question)) if body.stream else await collect(using, question, request)


@router.get(
    "/v1/answers/{answer_id}/events", response_class=Response, response_model=None, responses={**ANSWERS, **_RESUMED}
)
async def follow(
    answer_id: AnswerId,
    using: Using,
    caller: Asking,
    streaming: Streaming,
    queueing: Queueing,
    last_event_id: LastEventId = "",
) -> Response:
    """The events of an answer as server-sent events, beyond the one that `Last-Event-ID` names: none twice, none lost.

    `step`, `citation` and `text`, and last `done` with the answer or `error` with a problem. The answer
    may have ended, or have been asked of another gateway. What nobody works on any more is finished.
    """
    has = place_in(answer_id, last_event_id)
    await streaming()
    return await resume(using, caller, answer_id, has, queueing)


@router.get("/v1/answers/{answer_id}", responses={**refuses(404), **gives(AnswerBody)})
async def show(answer_id: AnswerId, using: Using, caller: Asking) -> Mapping[str, Any]:
    """An answer given earlier, as it was given."""

    def read() -> Mapping[str, Any]:
        with using.catalog.read() as tx:
            return answers.get(tx, caller.tenant, answer_id)

    return await asyncio.to_thread(read)


@router.post(
    "/v1/answers/{answer_id}/feedback",
    openapi_extra=documented(FeedbackRequest, {"helpful": True, "note": "It quotes the right sentence."}),
    responses=refuses(404, 409),
)
async def judge(answer_id: AnswerId, request: Request, using: Using, caller: Asking) -> Mapping[str, Any]:
    """Say whether an answer helped. The last word of each user counts, for every document that the answer cites."""
    body = await read_json(request, FeedbackRequest, using.settings.max_body_bytes)
    check_text(body.note)
    word, at = events.Word(body.helpful, body.note), now()
    new = await using.catalog.writing(lambda tx: events.judged(tx, caller.tenant, caller.user, answer_id, word, at))
    return {"answer_id": answer_id, "helpful": body.helpful, "note": body.note, "changed": new}


def _check_tokens(context: Context, wanted: int | None) -> None:
    most = context.settings.max_answer_tokens
    if wanted is not None and wanted > most:
        raise InvalidRequest(f"max_tokens: {wanted} is more than the {most} allowed")
