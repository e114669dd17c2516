"""/v1/chat/completions and /v1/models: what an OpenAI client expects, with citations and the moment beside it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from services.common.errors import InvalidQuestion, InvalidRequest, ModelNotFound
from services.gateway.asking import Asked, open_question, require_adapter, served
from services.gateway.bodies import Collection, Filters, documented, read_json
from services.gateway.caller import Asking, Queueing, Streaming
from services.gateway.context import Context, Using
from services.gateway.listening import HEARTBEAT, collect, listen, stream
from services.gateway.problems import openai_error
from services.gateway.refusals import ANSWERS, EVENTS, refuses
from services.orchestrator.graph.answer import Event, Question
from services.orchestrator.graph.conversing import Turn

router = APIRouter(tags=["openai"])

ALMANAC, QUOTED = "almanac", "almanac-quoted"
_SINCE = 1_767_225_600
_ASKED = {
    "model": ALMANAC,
    "messages": [{"role": "user", "content": "When did the harbour open?"}],
    "collection": "notes",
}
_BESIDE = ("citations", "moment", "moment_from", "moment_phrase", "original", "grounding", "degraded")


class Part(BaseModel):
    type: str
    text: str = ""


class ChatMessage(BaseModel):
    role: str
    content: str | list[Part] | None = None

    def words(self) -> str:
        """Its words, without what else it holds."""
        if not isinstance(self.content, list):
            return self.content or ""
        return "\n".join(part.text for part in self.content if part.type == "text")

    def question(self) -> str:
        """Its words. Raises InvalidQuestion for pictures and sounds."""
        if isinstance(self.content, list) and any(part.type != "text" for part in self.content):
            raise InvalidQuestion("messages: only text can be asked about")
        return self.words()


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """Standard fields that have no meaning here are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = 1
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    collection: Collection = "default"
    as_of: str | None = None
    known_at: str | None = None
    filters: Filters = Field(default_factory=dict)
    adapter: str = ""

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


@router.post(
    "/v1/chat/completions",
    response_model=None,
    openapi_extra=documented(ChatRequest, _ASKED),
    responses={**ANSWERS, **EVENTS},
)
async def complete(
    request: Request, using: Using, caller: Asking, streaming: Streaming, queueing: Queueing
) -> Response | Mapping[str, Any]:
    """Answer the last message of the user, made to stand alone where it leans on those before it (`original`)."""
    body = await read_json(request, ChatRequest, using.settings.max_body_bytes)
    if body.stream:
        await streaming()
    question = await open_question(using, caller, _asked(body, using.settings.max_answer_tokens), queueing)
    if body.stream:
        return stream(_chunks(using, question, body))
    return _completion(await collect(using, question, request), body.model)


@router.get("/v1/models")
async def models(using: Using, caller: Asking) -> dict[str, Any]:
    """`almanac`, `almanac-quoted`, and `almanac:NAME` for each adapter that the tenant may name."""
    adapters = [f"{ALMANAC}:{name}" for name in await served(using, caller.tenant) or ()]
    return {"object": "list", "data": [_model_json(name) for name in (ALMANAC, QUOTED, *adapters)]}


@router.get("/v1/models/{name}", responses=refuses(404))
async def model(name: Annotated[str, Path(examples=[ALMANAC])], using: Using, caller: Asking) -> dict[str, Any]:
    _, adapter = _known(name)
    await require_adapter(using, caller.tenant, adapter)
    return _model_json(name)


def _asked(body: ChatRequest, most_tokens: int) -> Asked:
    wanted = body.max_completion_tokens or body.max_tokens
    model, adapter = _known(body.model)
    last = max((place for place, message in enumerate(body.messages) if message.role == "user"), default=None)
    if last is None:
        raise InvalidRequest("messages: none of them is the user's")
    return Asked(
        text=body.messages[last].question(),
        history=_conversation(body.messages[:last]),
        collection=body.collection,
        as_of=body.as_of,
        known_at=body.known_at,
        filters=body.filters,
        generate=model == ALMANAC,
        max_tokens=min(wanted, most_tokens) if wanted else None,
        adapter=adapter or body.adapter,
    )


def _known(name: str) -> tuple[str, str]:
    """The model and the adapter that the name asks for, `almanac:NAME`. Raises ModelNotFound."""
    model, colon, adapter = name.partition(":")
    if model not in (ALMANAC, QUOTED) or (colon and (model != ALMANAC or not adapter)):
        there = f"{ALMANAC!r}, {QUOTED!r}, and '{ALMANAC}:NAME' with an adapter"
        raise ModelNotFound(f"there is no model {name[:64]!r}; there are {there}")
    return model, adapter


def _conversation(messages: Sequence[ChatMessage]) -> list[Turn]:
    """What the user asked, in order, each with what was answered."""
    turns: list[Turn] = []
    for message in messages:
        if message.role == "user":
            turns.append(Turn(message.words()))
        elif message.role == "assistant" and turns:
            turns[-1] = Turn(turns[-1].question, f"{turns[-1].answer} {message.words()}".strip())
    return turns


def _model_json(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _SINCE, "owned_by": "almanac"}


def _beside(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What Almanac says beside the standard fields."""
    return {"answer_id": answer["id"], **{name: answer[name] for name in _BESIDE}}


def _usage(answer: Mapping[str, Any]) -> dict[str, int]:
    prompt, completion = (int(answer["usage"].get(name, 0)) for name in ("prompt_tokens", "completion_tokens"))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _completion(answer: Mapping[str, Any], model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer["answer"], "refusal": None}
    return {
        "id": f"chatcmpl-{answer['id']}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": _usage(answer),
        **_beside(answer),
    }


async def _chunks(context: Context, question: Question, body: ChatRequest) -> AsyncIterator[str]:
    """The answer as OpenAI's chunks. The last one with a choice, and the one with the usage, say what is beside."""
    frame = {
        "id": f"chatcmpl-{question.answer_id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": body.model,
        **({"usage": None} if body.includes_usage else {}),
    }
    yield _chunk(frame, {"role": "assistant", "content": ""})
    async with aclosing(listen(context, question, context.settings.heartbeat_seconds)) as events:
        async for told in events:
            if not told:
                yield HEARTBEAT
            elif chunks := "".join(_chunk_of(event, frame, body) for event in told):
                yield chunks
    yield "data: [DONE]\n\n"


def _chunk_of(event: Event, frame: Mapping[str, Any], body: ChatRequest) -> str:
    """What OpenAI's clients are told of an event: nothing of most."""
    if event.kind == "text":
        return _chunk(frame, {"content": event.data["text"]})
    if event.kind == "error":
        return _data(openai_error(event.data["problem"]))
    if event.kind != "done":
        return ""
    answer = event.data["answer"]
    usage = {**frame, **_beside(answer), "choices": [], "usage": _usage(answer)}
    return _chunk({**frame, **_beside(answer)}, {}, "stop") + (_data(usage) if body.includes_usage else "")


def _chunk(frame: Mapping[str, Any], delta: Mapping[str, str], finish: str | None = None) -> str:
    return _data({**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]})


def _data(payload: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(payload, ensure_ascii=False)}\n\n"
