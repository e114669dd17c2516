"""What others use to ask: the OpenAI client, LangChain, an MCP client and curl, over a real socket, and as the README
tells it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import shutil
import subprocess
import threading

import httpx2
import openai
import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from services.catalog import keys
from services.catalog.commit import Recorder
from services.catalog.state import VIEWS, index_reader, set_watermark, view_reader
from services.common.errors import Overloaded, RateLimited
from services.common.moment import parse_instant
from services.orchestrator.graph.answer import Event
from tests.fakes.gateway import GENERATION, citation, document, said, serving
from tests.support import ROOT, missing

QUESTION = "Is Pluto a planet?"
YES, NO = "Pluto is the ninth planet. [1]", "Pluto is a dwarf planet. [1]"
REDEFINED = parse_instant("2006-08-24")
BUSY = "Are you busy?"
LONG = "What takes long?"
asked, left = threading.Event(), threading.Event()
"""Set once the answer that takes long is under way, and once nobody listens to it."""


async def by_date(question, emit):
    if question.text == BUSY:
        return await emit(Event("error", {"problem": Overloaded("more questions wait than can be").problem()}))
    if question.text == LONG:
        asked.set()
        try:
            await asyncio.sleep(60)
        finally:
            left.set()
    text = NO if question.moment.as_of >= REDEFINED else YES
    await emit(Event("citation", {"citation": citation().to_json()}))
    for piece in re.findall(r"\S+\s*", text):
        await emit(Event("text", {"text": piece}))
    return await emit(Event("done", {"answer": said(question, text, citation()).to_json()}))


def fill(context):
    with context.catalog.write() as tx:
        recorder = Recorder(tx, "local", "default")
        recorder.document(document())
        recorded = recorder.close()
        for reader in (index_reader(GENERATION.name), *(view_reader(view) for view in VIEWS)):
            set_watermark(tx, reader, "local", "default", recorded)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("clients"), by_date, fill) as found:
        yield found


@pytest.fixture
def url(served):
    return served[0]


def chat(url, **changed):
    return ChatOpenAI(model="almanac", base_url=f"{url}/v1", api_key="local", max_retries=0, **changed)


def test_the_openai_client_asks_streams_and_counts(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="local", max_retries=0) as client:
        asked = {"model": "almanac", "messages": [{"role": "user", "content": QUESTION}]}
        then = client.chat.completions.create(**asked, extra_body={"as_of": "2000-06-01"})
        with client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
            chunks = list(stream)
    assert then.choices[0].message.content == YES
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == NO
    assert chunks[-1].usage.total_tokens == then.usage.total_tokens == 10


def test_the_openai_client_knows_our_errors_by_its_own_names(served, monkeypatch):
    url, app = served
    context = app.state.context
    asked = {"model": "almanac", "messages": [{"role": "user", "content": QUESTION}]}
    with openai.OpenAI(base_url=f"{url}/v1", api_key="alm_0123456789ab_wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="there is no such key"):
            client.chat.completions.create(**asked)
        with pytest.raises(openai.AuthenticationError, match="there is no such key"):
            client.chat.completions.create(**asked, stream=True)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="local", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="'almanac-quoted'"):
            client.chat.completions.create(**{**asked, "model": "gpt"})
        with pytest.raises(openai.BadRequestError, match="soon"):
            client.chat.completions.create(**asked, extra_body={"as_of": "soon"})
        with pytest.raises(openai.InternalServerError, match="more questions wait") as raised:
            client.chat.completions.create(**{**asked, "messages": [{"role": "user", "content": BUSY}]})
        assert raised.value.response.headers["retry-after"]

        async def refuse(tenant, key_id):
            raise RateLimited("2 per minute are all used; try again in 1 s", {"Retry-After": "1"})

        monkeypatch.setattr(context.limiter, "admit", refuse)
        with pytest.raises(openai.RateLimitError, match="all used") as raised:
            client.chat.completions.create(**asked)
        assert raised.value.response.headers["retry-after"] == "1"
        assert raised.value.code == "rate-limited"


def test_the_openai_client_comes_back_by_itself_when_it_is_told_to_wait(served, monkeypatch):
    url, app = served
    admit, refused = app.state.context.limiter.admit, []

    async def refuse_once(tenant, key_id):
        if not refused:
            refused.append(key_id)
            raise RateLimited("all used; try again in 1 s", {"Retry-After": "1"})
        return await admit(tenant, key_id)

    monkeypatch.setattr(app.state.context.limiter, "admit", refuse_once)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="local", max_retries=2) as client:
        found = client.chat.completions.create(model="almanac", messages=[{"role": "user", "content": QUESTION}])
    assert found.choices[0].message.content == NO and refused


def test_langchain_invokes_streams_and_counts(url):
    found = chat(url).invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    assert found.content == NO
    assert found.usage_metadata["total_tokens"] == 10
    then = chat(url, extra_body={"as_of": "2000-06-01"}, stream_usage=True)
    chunks = list(then.stream(QUESTION))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content == YES
    assert len([chunk for chunk in chunks if chunk.content]) > 1
    assert whole.usage_metadata["total_tokens"] == 10


async def test_langchain_asks_asynchronously_and_in_batches(url):
    client = chat(url)
    assert (await client.ainvoke(QUESTION)).content == NO
    assert "".join([chunk.content async for chunk in client.astream(QUESTION)]) == NO
    assert [found.content for found in await client.abatch([QUESTION, QUESTION])] == [NO, NO]


def test_langchain_tells_our_errors(url):
    with pytest.raises(openai.BadRequestError, match="soon"):
        chat(url, extra_body={"as_of": "soon"}).invoke(QUESTION)
    with pytest.raises(openai.APIError, match="more questions wait"):
        list(chat(url).stream(BUSY))


async def test_an_mcp_client_asks_over_a_socket(url):
    async with Client(f"{url}/mcp") as client:
        now = await client.call_tool("ask", {"question": QUESTION})
        then = await client.call_tool("ask", {"question": QUESTION, "as_of": "2000-06-01"})
    assert (now.structured_content["answer"], then.structured_content["answer"]) == (NO, YES)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_mcp_client_that_leaves_is_no_longer_answered(url, mode):
    asked.clear()
    left.clear()
    async with Client(f"{url}/mcp", mode=mode) as client:
        asking = asyncio.create_task(client.call_tool("ask", {"question": LONG}))
        assert await asyncio.to_thread(asked.wait, 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert await asyncio.to_thread(left.wait, 10)


def snippets() -> dict[str, str]:
    """Of the README's section, by its language."""
    section = (ROOT / "README.md").read_text().partition("## Use it from…")[2].partition("\n## ")[0]
    found = re.findall(r"### (\w+)\n.*?```\w+\n(.*?)```", section, re.S)
    assert len(found) == section.count("### ")
    return dict(found)


@pytest.mark.parametrize("client", ["OpenAI", "LangChain"])
def test_the_python_of_the_readme_does_what_it_says(url, client):
    code = snippets()[client].replace("http://127.0.0.1:8420", url)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, f"README.md, {client}", "exec"), {"__name__": "readme"})
    assert printed.getvalue().strip() == YES


def test_curl_asks_as_the_readme_says(url):
    if shutil.which("curl") is None:
        missing("curl")
    command = snippets()["curl"].replace("http://127.0.0.1:8420", url)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout)["answer"] == YES, done.stderr


async def test_the_readmes_configuration_of_mcp_clients_is_enough_to_ask(tmp_path):
    configured = json.loads(snippets()["MCP"])["mcpServers"]["almanac"]
    with serving(tmp_path, by_date, fill) as (url, app):
        with app.state.context.catalog.write() as tx:
            key = keys.create(tx, "local", ["ask"])[1]
        headers = {name: value.replace("alm_…", key) for name, value in configured["headers"].items()}
        address = configured["url"].replace("http://127.0.0.1:8420", url)
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(address, http_client=http)) as client,
        ):
            assert "ask" in [tool.name for tool in (await client.list_tools()).tools]
            found = await client.call_tool("ask", {"question": QUESTION})
    assert found.structured_content["answer"] == NO
