"""Adapters of the generator: who may name which, loaded and unloaded, and answered with."""

import json
from dataclasses import asdict

import httpx
import pytest
from typer.testing import CliRunner

from services.admin.__main__ import app as almanac
from services.common.errors import Unavailable
from services.common.nodes.generator import Adapter
from services.gateway.caller import Caller, authenticate
from tests.fakes.gateway import COLLECTION, answering, client_of, gateway

ASK = {"question": "When did the harbour open?", "collection": COLLECTION}
CHAT = {"model": "almanac", "messages": [{"role": "user", "content": "When?"}], "collection": COLLECTION}
MINE, THEIRS = "of-local", "of-rival"


@pytest.fixture
async def asked():
    """The questions that came to be answered."""
    return []


@pytest.fixture
async def app(tmp_path, asked):
    answer = answering()

    async def answers(question, emit):
        asked.append(question)
        await answer(question, emit)

    async with gateway(tmp_path, answers) as started:
        yield started


@pytest.fixture
async def client(app):
    async with client_of(app) as opened:
        yield opened


async def test_an_adapter_is_loaded_pinned_and_unloaded(client):
    path = f"/v1/admin/adapters/{MINE}"
    unheld = asdict(Adapter(MINE))
    assert (await client.get("/v1/admin/adapters")).json() == {"adapters": [unheld]}
    assert (await client.put(path, json={})).json() == {**unheld, "loaded": True}
    assert (await client.put(path, json={"pinned": True})).json() == {**unheld, "loaded": True, "pinned": True}
    assert (await client.put(path, json={})).json()["pinned"]
    assert (await client.delete(path)).json() == unheld
    assert (await client.get("/v1/admin/adapters")).json() == {"adapters": [unheld]}


async def test_another_tenants_adapter_is_not_there(app, client):
    for method in ("PUT", "DELETE"):
        refused = await client.request(method, f"/v1/admin/adapters/{THEIRS}", json={})
        assert (refused.status_code, refused.json()["type"]) == (404, "urn:almanac:error:model-not-found")
    app.dependency_overrides[authenticate] = lambda: Caller("rival")
    assert [one["name"] for one in (await client.get("/v1/admin/adapters")).json()["adapters"]] == [THEIRS]
    listed = (await client.get("/v1/models")).json()["data"]
    assert [one["id"] for one in listed] == ["almanac", "almanac-quoted", f"almanac:{THEIRS}"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/answers", {**ASK, "adapter": MINE}),
        ("/v1/chat/completions", {**CHAT, "adapter": MINE}),
        ("/v1/chat/completions", {**CHAT, "model": f"almanac:{MINE}"}),
    ],
)
async def test_a_question_is_answered_with_the_adapter_it_names(client, asked, path, body):
    assert (await client.post(path, json=body)).status_code == 200
    assert asked[0].adapter == MINE


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/answers", {**ASK, "adapter": THEIRS}),
        ("/v1/chat/completions", {**CHAT, "adapter": THEIRS}),
        ("/v1/chat/completions", {**CHAT, "model": f"almanac:{THEIRS}"}),
        ("/v1/chat/completions", {**CHAT, "model": "almanac:"}),
        ("/v1/chat/completions", {**CHAT, "model": f"almanac-quoted:{MINE}"}),
    ],
)
async def test_one_that_the_tenant_may_not_name_is_a_404_before_anything_is_asked(client, asked, path, body):
    assert (await client.post(path, json=body)).status_code == 404
    assert asked == []


async def test_a_model_with_an_adapter_is_there_as_it_is_listed(client):
    for one in (await client.get("/v1/models")).json()["data"]:
        assert (await client.get(f"/v1/models/{one['id']}")).json() == one
    assert (await client.get(f"/v1/models/almanac:{THEIRS}")).status_code == 404


async def test_without_the_generator_models_are_listed_and_questions_asked_all_the_same(
    app, client, asked, monkeypatch
):
    async def away(tenant=""):
        raise Unavailable("the generator is away")

    monkeypatch.setattr(app.state.context.nodes.generator, "models", away)
    assert [one["id"] for one in (await client.get("/v1/models")).json()["data"]] == ["almanac", "almanac-quoted"]
    assert (await client.post("/v1/answers", json={**ASK, "adapter": MINE})).status_code == 200


def test_the_command_line_loads_pins_and_unloads():
    sent = []

    def handle(request):
        sent.append((request.method, request.url.raw_path.decode(), json.loads(request.content or b"null")))
        held = {**asdict(Adapter("legal")), "loaded": request.method != "DELETE", "pinned": True}
        return httpx.Response(200, json={"adapters": [held]} if request.method == "GET" else held)

    commands = (("list",), ("load", "le gal", "--pin"), ("unload", "a/b"))
    done = [CliRunner().invoke(almanac, ["adapters", *one], obj=httpx.MockTransport(handle)) for one in commands]
    assert [one.exit_code for one in done] == [0, 0, 0]
    assert sent == [
        ("GET", "/v1/admin/adapters", None),
        ("PUT", "/v1/admin/adapters/le%20gal", {"pinned": True}),
        ("DELETE", "/v1/admin/adapters/a%2Fb", None),
    ]
    assert "legal" in done[0].output and "pinned" in done[1].output
