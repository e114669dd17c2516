"""The OpenAI-compatible endpoints, through the unchanged OpenAI client."""

import httpx2
import openai
import pytest

from services.common.errors import Unavailable
from services.gateway.dispatch import Dispatcher
from services.gateway.metrics import Metrics
from services.orchestrator.graph.answer import Event
from tests.fakes.gateway import COLLECTION, MemoryBroker, answering, catalog_in, gateway, nodes_over, said

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where?"},
    {"role": "assistant", "content": "There."},
    {"role": "user", "content": "When did the harbour open?"},
]
HERE = {"collection": COLLECTION}


def client_of(app):
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    return openai.AsyncOpenAI(api_key="none", base_url="http://localhost/v1", http_client=http, max_retries=0)


@pytest.fixture
async def client(tmp_path):
    async with gateway(tmp_path, answering()) as app, client_of(app) as opened:
        yield opened


async def complete(client, **changed):
    fields = {"model": "almanac", "messages": MESSAGES, "extra_body": HERE, **changed}
    return await client.chat.completions.create(**fields)


async def test_a_completion_has_the_standard_fields_and_ours_beside_them(client):
    found = await complete(client, temperature=0.2, user="me", seed=1)
    assert found.choices[0].message.content == "It opened in 1901."
    assert found.choices[0].message.role == "assistant"
    assert found.choices[0].finish_reason == "stop"
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (7, 3, 10)
    assert found.citations[0]["n"] == 1
    assert set(found.moment) == {"as_of", "known_at"}
    assert (found.grounding, found.degraded) == ("generated", [])
    assert found.id == f"chatcmpl-{found.answer_id}"


async def test_a_stream_is_chunks_whose_last_carries_citations(client):
    chunks = [chunk async for chunk in await complete(client, stream=True)]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "It opened in 1901."
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].citations[0]["kind"] == "passage"
    assert chunks[-1].id == f"chatcmpl-{chunks[-1].answer_id}"
    assert all(chunk.usage is None for chunk in chunks)


async def test_the_usage_comes_last_where_it_is_asked_for(client):
    chunks = [chunk async for chunk in await complete(client, stream=True, stream_options={"include_usage": True})]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 10
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].citations == chunks[-1].citations


async def test_the_last_user_message_is_asked_at_the_moment_given(tmp_path):
    asked = []

    async def answer(question, emit):
        asked.append(question)
        await emit(Event("done", {"answer": said(question, "Yes.").to_json()}))

    async with gateway(tmp_path, answer) as app, client_of(app) as client:
        extra = {**HERE, "as_of": "2019-03-01", "filters": {"kind": ["a"]}, "tenant": "other"}
        await complete(client, extra_body=extra, max_tokens=100_000)
        parts = [{"type": "text", "text": "When?"}]
        await complete(client, model="almanac-quoted", messages=[{"role": "user", "content": parts}])
    first, second = asked
    assert first.text == "When did the harbour open?"
    assert first.moment.as_of == 1_551_398_400_000_000
    assert (first.tenant, first.filters, first.generate) == ("local", {"kind": ["a"]}, True)
    assert first.max_tokens == app.state.context.settings.max_answer_tokens
    assert (second.text, second.generate) == ("When?", False)


async def test_a_follow_up_is_asked_so_that_it_stands_alone(tmp_path):
    asked = []

    async def answer(question, emit):
        asked.append((question.text, question.original))
        await emit(Event("done", {"answer": said(question, "").to_json()}))

    turns = [("user", "Where was Nikola Tesla born?"), ("assistant", "In Smiljan. [1]"), ("user", "When did he die?")]
    messages = [{"role": role, "content": text} for role, text in turns]
    async with gateway(tmp_path, answer) as app, client_of(app) as client:
        await complete(client, messages=messages)
        await complete(client, messages=messages[:1])
    assert asked == [("When did Nikola Tesla die?", "When did he die?"), ("Where was Nikola Tesla born?", "")]


async def test_models_are_listed(client):
    assert [model.id async for model in client.models.list()] == ["almanac", "almanac-quoted", "almanac:of-local"]
    assert (await client.models.retrieve("almanac")).owned_by == "almanac"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt")


BAD = [
    ({"model": "gpt"}, openai.NotFoundError, "model-not-found"),
    ({"messages": []}, openai.BadRequestError, "invalid-request"),
    ({"messages": [{"role": "system", "content": "x"}]}, openai.BadRequestError, "invalid-request"),
    ({"messages": [{"role": "user", "content": " "}]}, openai.BadRequestError, "invalid-question"),
    ({"messages": [{"role": "user", "content": "x" * 2_001}]}, openai.BadRequestError, "invalid-question"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        openai.BadRequestError,
        "invalid-question",
    ),
    ({"n": 2}, openai.BadRequestError, "invalid-request"),
    ({"extra_body": {**HERE, "as_of": "soon"}}, openai.BadRequestError, "invalid-moment"),
    ({"extra_body": {**HERE, "known_at": "9000-01-01"}}, openai.BadRequestError, "invalid-moment"),
    ({"extra_body": {"collection": "nowhere"}}, openai.NotFoundError, "collection-not-found"),
]


@pytest.mark.parametrize(("changed", "error", "code"), BAD)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_mistake_is_an_error_as_openai_spells_it(client, changed, error, code, stream):
    with pytest.raises(error) as raised:
        await complete(client, stream=stream, **changed)
    assert raised.value.code == code
    assert raised.value.body["type"] == "invalid_request_error"
    assert raised.value.body["message"]


async def test_a_failure_is_a_server_error_in_either_form(tmp_path):
    async def fails(question, emit):
        await emit(Event("error", {"problem": Unavailable("the retriever is away").problem()}))

    async with gateway(tmp_path, fails) as app, client_of(app) as client:
        with pytest.raises(openai.InternalServerError) as raised:
            await complete(client)
        assert raised.value.status_code == 503
        with pytest.raises(openai.APIError, match="the retriever is away"):
            _ = [chunk async for chunk in await complete(client, stream=True)]


async def test_without_a_broker_the_gateway_answers_and_says_so(tmp_path):
    async def graph(nodes, question, emit, prefix):
        await emit(Event("text", {"text": "It opened in 1901."}))
        return said(question, "It opened in 1901.")

    catalog = catalog_in(tmp_path)
    dispatcher = Dispatcher(nodes_over(catalog), MemoryBroker(down=True), Metrics(), 5, run=graph)
    (tmp_path / "other").mkdir()
    async with gateway(tmp_path, dispatcher.answer) as app, client_of(app) as client:
        assert (await complete(client)).degraded == ["broker"]
        chunks = [chunk async for chunk in await complete(client, stream=True)]
        assert chunks[-1].degraded == ["broker"]
    catalog.close()
