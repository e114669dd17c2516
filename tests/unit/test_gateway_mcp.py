"""The Model Context Protocol's endpoint, through the protocol's own client."""

import ast
import asyncio
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from sqlalchemy.exc import OperationalError

from services.catalog import keys
from services.catalog.commit import Recorder
from services.common.errors import RateLimited, Unavailable
from services.common.moment import parse_instant
from services.orchestrator.graph.answer import Event
from tests.fakes.gateway import COLLECTION, TEXT, citation, client_of, document, gateway, said
from tests.support import ROOT

ASKED = {"question": "When did the harbour open?", "collection": COLLECTION}
TOOLS = {"ask", "compare", "timeline", "search", "history", "collections"}
HANDSHAKE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"accept": "application/json, text/event-stream"}


@asynccontextmanager
async def connected(app, key="", mode="auto"):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), headers=headers) as http,
        Client(streamable_http_client("http://localhost/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.fixture
async def app(tmp_path):
    async with gateway(tmp_path, by_year) as opened:
        yield opened


async def by_year(question, emit):
    opened = question.moment.as_of >= parse_instant("1901-01-01")
    text = "It opened in 1901." if opened else "It has not opened."
    answer = said(question, text, citation(), degraded=() if opened else ("features",))
    await emit(Event("done", {"answer": answer.to_json()}))


def make_key(app, tenant="local", scopes=("ask",)):
    with app.state.context.catalog.write() as tx:
        made, text = keys.create(tx, tenant, scopes)
    app.state.context.keyring.forget()
    return made, text


async def failed(client, tool, arguments):
    """What the tool says of its failure."""
    found = await client.call_tool(tool, arguments)
    assert found.is_error
    assert found.structured_content["detail"] == found.content[0].text
    return found.structured_content


def test_the_protocols_package_is_loaded_by_its_first_client_alone():
    for path in (ROOT / "services" / "gateway").rglob("*.py"):
        body = ast.parse(path.read_text()).body
        named = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        named |= {node.module for node in body if isinstance(node, ast.ImportFrom)}
        loads = any(name.partition(".")[0] in ("mcp", "mcp_types") or name.endswith("mcp.server") for name in named)
        assert loads == path.match("gateway/mcp/server.py"), path


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_tools_are_listed_for_clients_old_and_new(app, mode):
    async with connected(app, mode=mode) as client:
        assert client.server_info.name == "almanac"
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        found = await client.call_tool("ask", ASKED)
    assert set(listed) == TOOLS
    assert listed["ask"].input_schema["required"] == ["question"]
    assert {"as_of", "known_at"} <= set(listed["search"].input_schema["properties"])
    assert all(tool.annotations.read_only_hint for tool in listed.values())
    assert "It opened in 1901." in found.content[0].text


async def test_a_question_has_the_answer_of_its_moment(app):
    async with connected(app) as client:
        now = await client.call_tool("ask", ASKED)
        then = await client.call_tool("ask", {**ASKED, "as_of": "1900-01-01"})
    assert now.structured_content["answer"] == "It opened in 1901."
    assert then.structured_content["answer"] == "It has not opened."
    assert then.structured_content["moment"]["as_of"].startswith("1900-01-01")
    said_then = then.content[0].text
    assert "[1] Harbour, document port/harbour, valid from 1970-01-01" in said_then and TEXT[:27] in said_then
    assert "As of 1900-01-01" in said_then and "Answered without: features." in said_then
    assert "Answered without" not in now.content[0].text


async def test_two_moments_are_compared_and_a_timeline_is_drawn(app):
    async with connected(app) as client:
        at = [{"as_of": "1900-01-01"}, {"as_of": "2000-01-01"}]
        found = await client.call_tool("compare", {**ASKED, "at": at})
        assert [one["answer"] for one in found.structured_content["answers"]] == [
            "It has not opened.",
            "It opened in 1901.",
        ]
        assert len(found.structured_content["changes"]) == 1
        words = found.content[0].text
        assert words.index("It has not opened.") < words.index("It opened in 1901.") < words.index("another answer")
        told = await failed(client, "compare", {**ASKED, "at": at[:1]})
        assert told["type"] == "urn:almanac:error:invalid-request"
        drawn = await client.call_tool("timeline", ASKED)
    assert drawn.structured_content["entries"]


async def test_tools_give_what_the_routes_give(app):
    async with connected(app) as client, client_of(app) as http:
        search = await client.call_tool("search", {"query": "harbour", "collection": COLLECTION, "limit": 3})
        history = await client.call_tool("history", {"doc_id": "port/harbour", "collection": COLLECTION})
        collections = await client.call_tool("collections", {})
        routed = await http.get(f"/v1/documents/port/harbour/versions?collection={COLLECTION}")
        assert history.structured_content == routed.json()
        assert collections.structured_content == (await http.get("/v1/collections")).json()
    [hit] = search.structured_content["hits"]
    assert (hit["doc_id"], hit["text"]) == ("port/harbour", TEXT)


WRONG = [
    ("ask", {"question": " ", "collection": COLLECTION}, "invalid-question"),
    ("ask", {**ASKED, "as_of": "soon"}, "invalid-moment"),
    ("ask", {**ASKED, "collection": "nowhere"}, "collection-not-found"),
    ("ask", {**ASKED, "tenant": "rival"}, "invalid-request"),
    ("search", {"query": "x", "limit": 101}, "invalid-request"),
    ("search", {}, "invalid-request"),
    ("history", {"doc_id": "none", "collection": COLLECTION}, "document-not-found"),
]


@pytest.mark.parametrize(("tool", "arguments", "error"), WRONG)
async def test_a_mistake_is_a_failed_tool_that_says_so(app, tool, arguments, error):
    async with connected(app) as client:
        assert (await failed(client, tool, arguments))["type"] == f"urn:almanac:error:{error}"


async def test_a_failure_is_told_without_its_inside(tmp_path, monkeypatch):
    async def fails(question, emit):
        await emit(Event("error", {"problem": Unavailable("the retriever is away").problem()}))

    async with gateway(tmp_path, fails) as app, connected(app) as client:
        assert (await failed(client, "ask", ASKED))["detail"] == "the retriever is away"

        def breaks(kind):
            def broken(*given):
                raise kind

            monkeypatch.setattr("services.gateway.routes.collections.list_collections", broken)

        breaks(ZeroDivisionError("secret"))
        told = await failed(client, "collections", {})
        assert (told["status"], "secret" in told["detail"]) == (500, False)
        breaks(OperationalError("SELECT secret", {}, Exception()))
        told = await failed(client, "collections", {})
        assert (told["status"], "secret" in told["detail"]) == (503, False)


async def test_an_unknown_tool_is_named_an_error(app):
    async with connected(app) as client:
        with pytest.raises(MCPError, match="there is no tool 'drop'; there are ask, "):
            await client.call_tool("drop", {})


async def test_a_wrong_key_is_refused_in_words(app):
    _, ingests = make_key(app, scopes=("ingest",))
    for key, reason in (("", "send a key"), ("alm_0123456789ab_x", "no such key"), (ingests, "lacks the scope ask")):
        with pytest.raises(BaseExceptionGroup) as raised:
            async with connected(app, key):
                pass
        assert raised.group_contains(MCPError, match=reason)
    async with client_of(app) as http:
        refused = await http.post("/mcp", json=HANDSHAKE, headers=ACCEPT)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.headers["content-security-policy"]


async def test_another_tenants_collection_is_not_there(app):
    with app.state.context.catalog.write() as tx:
        recorder = Recorder(tx, "rival", "secrets")
        recorder.document(document())
        recorder.close()
    _, ours = make_key(app)
    _, theirs = make_key(app, tenant="rival")
    async with connected(app, ours) as client:
        names = [one["name"] for one in (await client.call_tool("collections", {})).structured_content["collections"]]
        assert names == [COLLECTION]
        for tool, more in (("ask", ASKED), ("search", {"query": "x"}), ("history", {"doc_id": "port/harbour"})):
            told = await failed(client, tool, {**more, "collection": "secrets"})
            assert told["type"].endswith("collection-not-found")
    async with connected(app, theirs) as client:
        found = await client.call_tool("history", {"doc_id": "port/harbour", "collection": "secrets"})
        assert len(found.structured_content["versions"]) == 1


async def test_every_message_counts_once_and_one_too_many_is_told_when_to_come_back(app, monkeypatch):
    made, key = make_key(app)
    counted = []

    async def admit(tenant, key_id):
        counted.append((tenant, key_id))
        if len(counted) > 3:
            raise RateLimited("3 per minute are all used; try again in 7 s", {"Retry-After": "7"})
        return {"RateLimit": '"key";r=1;t=7'}

    limiter = app.state.context.limiter
    monkeypatch.setattr(limiter, "admit", admit)
    async with connected(app, key) as client:
        await client.list_tools()
        await client.call_tool("collections", {})
        with pytest.raises(MCPError, match="try again in 7 s"):
            await client.call_tool("collections", {})
    assert counted == [("local", made.key_id)] * 4


async def test_a_client_that_asks_for_progress_hears_of_it_while_an_answer_takes_its_time(tmp_path):
    heard = []

    async def slow(question, emit):
        await asyncio.sleep(0.1)
        await by_year(question, emit)

    async def progressing(progress, total, message):
        heard.append((progress, message))

    async with gateway(tmp_path, slow, heartbeat_seconds=0.01) as app, connected(app) as client:
        found = await client.call_tool("ask", ASKED, progress_callback=progressing)
    assert found.structured_content["answer"] == "It opened in 1901."
    passed = [seconds for seconds, _ in heard]
    assert heard and passed == sorted(passed) and {message for _, message in heard} == {"ask: at work"}


async def test_a_client_that_asks_for_none_gets_one_json_object(app):
    called = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": ASKED}}
    async with client_of(app) as client:
        plain = await client.post("/mcp", json=called, headers=ACCEPT)
        called["params"]["_meta"] = {"progressToken": 1}
        only_json = await client.post("/mcp", json=called, headers={"accept": "application/json"})
    assert plain.headers["content-type"] == "application/json"
    assert only_json.headers["content-type"] == "application/json"
    assert only_json.json()["result"]["structuredContent"]["answer"] == "It opened in 1901."


async def test_tokens_that_are_used_up_fail_the_tool_alone(app, monkeypatch):
    async def require_tokens(tenant, key_id, quotas):
        raise RateLimited("tokens are all used; try again in 7 s")

    monkeypatch.setattr(app.state.context.limiter, "require_tokens", require_tokens)
    async with connected(app) as client:
        assert (await failed(client, "ask", ASKED))["status"] == 429


@pytest.mark.parametrize(
    ("headers", "host"),
    [({}, "rebound.example"), ({"origin": "http://evil.example"}, "localhost"), ({"via": "1.1 p"}, "localhost")],
)
async def test_without_a_key_another_site_gets_nothing(app, headers, host):
    async with client_of(app) as http:
        found = await http.post("/mcp", json=HANDSHAKE, headers={**ACCEPT, **headers, "host": host})
    assert found.status_code == 403
    assert found.json()["error"]["data"]["type"] == "urn:almanac:error:forbidden"


async def test_bytes_that_are_no_message_are_a_clients_mistake(app):
    documented = set(app.openapi()["paths"]["/mcp"]["post"]["responses"])
    async with client_of(app) as http:
        for body, kind in ((b"{", "application/json"), (b"[]", "application/json"), (b"{}", "text/plain")):
            found = await http.post("/mcp", content=body, headers={**ACCEPT, "content-type": kind})
            assert found.status_code == 400, (body, found.text)
        large = app.state.context.settings.max_body_bytes + 1
        found = await http.post("/mcp", content=b" " * large, headers={**ACCEPT, "content-type": "application/json"})
        assert found.status_code == 413
        call = {"jsonrpc": "2.0", "id": 1, "method": "no/such"}
        assert (await http.post("/mcp", json=call, headers={"accept": "text/html"})).status_code == 406
        assert (await http.post("/mcp", json=call, headers=ACCEPT)).json()["error"]["message"] == "Method not found"
        assert {"200", "202", "400", "401", "403", "404", "406", "413", "429"} <= documented
        assert (await http.get("/mcp", headers=ACCEPT)).status_code == 405
