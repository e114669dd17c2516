"""The `openai` backend against servers that do well, badly, and nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from services.common.errors import AlmanacError, Internal, InvalidRequest, ModelNotFound, Overloaded, Unavailable
from services.common.nodes.generator import Chunk, Message, Prompt
from services.generator.adapters import AdapterEntry
from services.generator.backends import default_backend, open_backend
from services.generator.backends.openai import OpenAIBackend
from services.generator.settings import GeneratorSettings

URL = "http://model.test/v1"
Handler = Callable[[httpx.Request], httpx.Response]


class Stream(httpx.AsyncByteStream):
    """Server-sent events, then `failure` or the end; it remembers whether it was closed."""

    def __init__(self, *events: Any, failure: Exception | None = None) -> None:
        self._events, self._failure = events, failure
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._events:
            await asyncio.sleep(0)
            yield b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n"
        if self._failure is not None:
            raise self._failure

    async def aclose(self) -> None:
        self.closed = True


def said(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def backend_over(handler: Handler, **how: Any) -> OpenAIBackend:
    settings = GeneratorSettings(generator_url=URL, generator_model="big", **how)
    return OpenAIBackend(settings, httpx.MockTransport(handler))


def streaming(*events: Any, failure: Exception | None = None) -> OpenAIBackend:
    return backend_over(lambda _: httpx.Response(200, stream=Stream(*events, failure=failure)))


async def chunks_of(backend: OpenAIBackend, **how: Any) -> list[Chunk]:
    return [chunk async for chunk in backend.generate(Prompt("acme", (Message("user", "Hi."),), **how))]


async def refusal_of(backend: OpenAIBackend, **how: Any) -> AlmanacError:
    with pytest.raises(AlmanacError) as refused:
        await chunks_of(backend, **how)
    assert (await backend.stats()).running == 0
    return refused.value


async def test_usage_goes_out_with_the_finish_reason():
    details = {"prompt_tokens_details": {"cached_tokens": 16}}
    usage = {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 2, **details}}
    chunks = await chunks_of(streaming(said("Good"), said(" day", "stop"), usage, b"[DONE]"))
    counted = Chunk("Good", completion_tokens=1), Chunk(" day", completion_tokens=2)
    assert chunks == [*counted, Chunk("", "stop", 20, 2, 16)]


async def test_what_was_read_of_the_prompt_is_told_with_the_first_text():
    read = {"choices": [], "prompt_progress": {"total": 20, "cache": 16, "processed": 20}}
    chunks = await chunks_of(streaming(read, said("Good"), said(" day", "stop"), b"[DONE]"))
    assert chunks[0] == Chunk("Good", "", 20, 1, 16)


async def test_without_usage_the_pieces_are_counted():
    assert (await chunks_of(streaming(said("Good"), said(" day", "length"), b"[DONE]")))[-1] == Chunk(
        "", "length", 0, 2
    )


async def test_the_request_carries_key_model_bounds_and_what_the_settings_add():
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, stream=Stream(said("x", "stop")))

    adapters = {"legal": AdapterEntry(source="acme-legal-v2")}
    backend = backend_over(
        handler,
        generator_api_key="s3cret",
        generator_adapters=adapters,
        generator_cache_salt=True,
        generator_extra_body={"top_k": 1},
    )
    await chunks_of(backend, adapter="legal", max_tokens=9, stop=("END",), seed=3)
    body = json.loads(seen[0].content)
    assert str(seen[0].url) == f"{URL}/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer s3cret"
    assert (body["model"], body["cache_salt"], body["top_k"]) == ("acme-legal-v2", "acme", 1)
    assert (body["max_tokens"], body["stop"], body["seed"], body["stream"]) == (9, ["END"], 3, True)
    await chunks_of(backend)
    assert json.loads(seen[1].content)["model"] == "big"


def test_the_key_is_not_shown():
    assert "s3cret" not in repr(GeneratorSettings(generator_api_key="s3cret"))


@pytest.mark.parametrize(
    ("status", "error", "raised"),
    [
        (400, {"message": "maximum context length is 512 tokens"}, InvalidRequest),
        (400, {"message": "no such field"}, InvalidRequest),
        (401, {"message": "bad key"}, Unavailable),
        (404, {"message": "no such model"}, Unavailable),
        (429, {"message": "slow down"}, Overloaded),
        (500, {"message": "oops"}, Unavailable),
        (503, {"message": "loading"}, Unavailable),
    ],
)
async def test_a_refusal_is_told_with_the_servers_reason(status: int, error: object, raised: type[AlmanacError]):
    refused = await refusal_of(backend_over(lambda _: httpx.Response(status, json={"error": error})))
    assert type(refused) is raised and error["message"] in refused.detail


async def test_a_refusal_that_is_no_json_is_told_too():
    refused = await refusal_of(backend_over(lambda _: httpx.Response(502, text="<html>Bad gateway")))
    assert "502" in refused.detail and "Bad gateway" in refused.detail


async def test_an_adapter_that_the_server_does_not_have_is_not_found():
    backend = backend_over(lambda _: httpx.Response(404, json={"error": {"message": "no model acme-legal"}}))
    assert isinstance(await refusal_of(backend, adapter="legal"), ModelNotFound)


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (httpx.ConnectError("refused"), "cannot be reached"),
        (httpx.ConnectTimeout(""), "cannot be reached"),
        (httpx.ReadTimeout(""), "said nothing for 60 s"),
        (httpx.ReadError("reset"), "broke off"),
    ],
)
async def test_a_server_that_is_lost_is_unavailable(failure: Exception, says: str):
    refused = await refusal_of(streaming(said("Good"), failure=failure))
    assert isinstance(refused, Unavailable) and says in refused.detail


async def test_an_answer_that_just_ends_is_not_taken_for_whole():
    assert isinstance(await refusal_of(streaming(said("Good"))), Unavailable)


async def test_an_error_among_the_events_is_raised():
    refused = await refusal_of(streaming(said("Good"), {"error": {"message": "out of memory", "code": 500}}))
    assert isinstance(refused, Internal) and "out of memory" in refused.detail


async def test_what_is_no_chat_completion_is_told():
    assert "does not speak" in (await refusal_of(streaming(b"<html>"))).detail


async def test_closing_an_answer_closes_its_stream():
    stream = Stream(*(said("on and ") for _ in range(100)))
    backend = backend_over(lambda _: httpx.Response(200, stream=stream))
    async with aclosing(backend.generate(Prompt("acme", (Message("user", "Hi."),)))) as chunks:
        await anext(chunks)
        assert not stream.closed and (await backend.stats()).running == 1
    assert stream.closed and (await backend.stats()).running == 0


async def test_no_more_run_at_the_server_than_there_are_slots():
    most, now = 0, 0

    async def handler(_: httpx.Request) -> httpx.Response:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return httpx.Response(200, stream=Stream(said("x", "stop")))

    backend = backend_over(handler, generator_slots=3)
    await asyncio.gather(*(chunks_of(backend) for _ in range(8)))
    assert most == 3


def test_the_backend_is_what_is_named_or_what_there_is():
    assert default_backend(GeneratorSettings(generator_url=URL)) == "openai"
    assert default_backend(GeneratorSettings()) in ("vllm", "llamacpp")
    with pytest.raises(InvalidRequest, match="choose one of"):
        open_backend(GeneratorSettings(generator_backend="oracle"))
    with pytest.raises(InvalidRequest, match="ALMANAC_GENERATOR_URL"):
        open_backend(GeneratorSettings(generator_backend="openai"))


async def test_a_connection_that_was_closed_while_it_lay_idle_is_replaced_once() -> None:
    calls: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        if len(calls) % 2:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        return httpx.Response(200, stream=Stream(said("Yes."), said("", "stop")))

    assert "".join(chunk.text for chunk in await chunks_of(backend_over(handler))) == "Yes."
    assert len(calls) == 2


async def test_an_answer_that_breaks_off_is_not_begun_again() -> None:
    backend = streaming(said("Yes"), failure=httpx.RemoteProtocolError("peer closed connection"))
    with pytest.raises(Unavailable, match="broke off"):
        await chunks_of(backend)
