"""Keys: what they open, how they end, and when none is needed."""

from hmac import compare_digest

import httpx
import pytest

from services.catalog import answers, events, keys
from services.common.errors import Unauthorized
from services.common.moment import format_instant, now
from services.gateway import keyring as keyring_module
from services.gateway.keyring import LIFE_SECONDS, Keyring
from services.orchestrator.graph.costing import Cost, saved
from tests.fakes.gateway import COLLECTION, answering, ask, catalog_in, client_of, gateway, said

ASK = {"question": "When did the harbour open?", "collection": COLLECTION}
HOUR_US = 3_600_000_000


@pytest.fixture
async def app(tmp_path):
    async with gateway(tmp_path, answering()) as started:
        yield started


@pytest.fixture
async def client(app):
    async with client_of(app) as opened:
        yield opened


@pytest.fixture
def catalog(tmp_path):
    opened = catalog_in(tmp_path)
    yield opened
    opened.close()


def make(catalog, *scopes, tenant="local", **fields):
    with catalog.write() as tx:
        return keys.create(tx, tenant, scopes or ("ask", "ingest", "admin"), **fields)


def bearing(text):
    return {"Authorization": f"Bearer {text}"}


async def status(client, path="/v1/collections", key=None, **headers):
    sent = {**(bearing(key) if key else {}), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return (await client.get(path, headers=sent)).status_code


async def test_without_any_key_a_local_request_is_the_operators(client):
    assert (await client.get("/v1/collections")).json()["collections"][0]["name"] == COLLECTION


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "10.0.0.7:8420"},
        {"host": "[not an address"},
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"x_forwarded_for": "10.0.0.7"},
        {"forwarded": "for=10.0.0.7"},
    ],
)
async def test_what_may_come_from_elsewhere_is_not_local(client, headers):
    assert await status(client, **headers) == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8420", "[::1]:8420", "127.8.9.1"])
async def test_loopback_has_several_names(client, host):
    assert await status(client, host=host, origin=f"http://{host}", sec_fetch_site="same-origin") == 200


async def test_a_token_that_is_no_key_is_passed_over_while_none_is_needed(client):
    assert await status(client, key="sk-whatever") == 200


async def test_from_the_first_key_on_every_request_needs_one(client):
    text = (await client.post("/v1/admin/keys", json={"scopes": ["ask"]})).json()["key"]
    refused = await client.get("/v1/collections")
    assert (refused.status_code, refused.json()["type"]) == (401, "urn:almanac:error:unauthorized")
    assert refused.headers["www-authenticate"] == 'Bearer realm="almanac"'
    assert await status(client, key=text) == 200
    assert await status(client, key="sk-whatever") == 401
    assert await status(client, key=text, host="almanac.example", origin="https://elsewhere.example") == 200


async def test_the_key_of_a_home_does_not_close_it(app, client):
    _, text = make(app.state.context.catalog, local=True)
    assert await status(client, key=text) == 200
    assert await status(client) == 200


@pytest.mark.parametrize("settings", [{"require_key": True}, {"host": "0.0.0.0"}])
async def test_a_key_may_be_needed_from_the_start(tmp_path, settings):
    async with gateway(tmp_path, answering(), **settings) as app, client_of(app) as client:
        assert await status(client) == 401
        assert [await status(client, path) for path in ("/healthz", "/", "/openapi.json")] == [200] * 3


async def test_health_and_the_page_need_no_key(app, client):
    make(app.state.context.catalog)
    for path in ("/healthz", "/metrics", "/", "/docs", "/openapi.json", "/static/style.css"):
        assert await status(client, path, host="almanac.example") == 200, path


WRONG = ["", "x", "alm_", "alm__", "alm_0123456789ab", "alm_0123456789ab_x", "alm_\u00e4_x", "alm_a'--_x", "alm_a_b_c"]


@pytest.mark.parametrize("text", WRONG)
async def test_what_is_no_key_opens_nothing(app, client, text):
    make(app.state.context.catalog)
    assert await status(client, key=text.encode()) == 401 if text else await status(client) == 401


async def test_a_key_is_kept_as_a_digest_and_shown_once(app, client):
    made = (await client.post("/v1/admin/keys", json={"name": "laptop", "scopes": ["admin"]})).json()
    secret = made["key"].split("_", 2)[2]
    assert len(secret) >= 43
    stored = (app.state.context.settings.home / "catalog.db-wal").read_bytes()
    assert secret.encode() not in stored
    assert keys.digest(secret).encode() in stored
    listed = (await client.get("/v1/admin/keys", headers=bearing(made["key"]))).json()["keys"]
    assert [(key["id"], key["name"]) for key in listed] == [(made["id"], "laptop")]
    assert secret not in str(listed)


@pytest.mark.parametrize(
    ("scope", "request_", "allowed"),
    [
        ("ask", ("GET", "/v1/collections"), True),
        ("ask", ("GET", "/v1/jobs"), False),
        ("ask", ("GET", "/v1/admin/keys"), False),
        ("ingest", ("GET", "/v1/jobs"), True),
        ("ingest", ("GET", "/v1/collections"), False),
        ("ingest", ("DELETE", "/v1/documents/none?collection=notes"), True),
        ("ingest", ("POST", "/v1/documents/none/erase?collection=notes"), False),
        ("admin", ("POST", "/v1/documents/none/erase?collection=notes"), True),
        ("admin", ("POST", "/v1/answers"), False),
    ],
)
async def test_a_scope_opens_its_routes_alone(app, client, scope, request_, allowed):
    _, text = make(app.state.context.catalog, scope)
    response = await client.request(*request_, headers=bearing(text))
    assert (response.status_code != 403) is allowed
    if not allowed:
        assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


async def test_a_history_needs_an_administrator(app, client):
    _, text = make(app.state.context.catalog, "ingest")
    rows = [{"id": "a", "text": "x", "valid_from": "2001-01-01", "recorded_at": "2001-01-01"}]
    body = {"collection": "past", "documents": rows, "history": True}
    assert (await client.post("/v1/documents", json=body, headers=bearing(text))).status_code == 403
    _, administrators = make(app.state.context.catalog)
    assert (await client.post("/v1/documents", json=body, headers=bearing(administrators))).status_code == 202
    [entry] = (await client.get("/v1/admin/audit", headers=bearing(administrators))).json()["entries"]
    assert (entry["action"], entry["subject"], entry["detail"]["outcome"]) == ("documents.add", "past", "done")


async def test_an_openai_client_is_told_in_its_own_words(app, client):
    make(app.state.context.catalog)
    refused = await client.post("/v1/chat/completions", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")


class TestTenants:
    """Whose a key is decides what it reaches."""

    async def test_a_key_sees_its_own_tenant_alone(self, app, client):
        _, text = make(app.state.context.catalog, tenant="other")
        assert (await client.get("/v1/collections", headers=bearing(text))).json() == {"collections": []}
        missing = await client.post("/v1/answers", json=ASK, headers=bearing(text))
        assert missing.json()["type"] == "urn:almanac:error:collection-not-found"

    async def test_an_administrator_governs_the_own_tenant_and_the_operator_all(self, app, client):
        catalog = app.state.context.catalog
        _, operators = make(catalog)
        others, text = make(catalog, tenant="other")
        seen = (await client.get("/v1/admin/keys", headers=bearing(text))).json()["keys"]
        assert {key["tenant"] for key in seen} == {"other"}
        everybody = (await client.get("/v1/admin/keys", headers=bearing(operators))).json()["keys"]
        assert {key["tenant"] for key in everybody} == {"local", "other"}
        for method, path in (("POST", "/v1/admin/keys"), ("GET", "/v1/admin/keys?tenant=local")):
            body = {"tenant": "local"} if method == "POST" else None
            assert (await client.request(method, path, json=body, headers=bearing(text))).status_code == 403
        for path in ("/v1/admin/generations", "/v1/admin/tenants"):
            assert await status(client, path, key=text) == 403
        assert await status(client, "/v1/admin/tenants", key=operators) == 200
        mine = operators.split("_")[1]
        assert (await client.delete(f"/v1/admin/keys/{mine}", headers=bearing(text))).status_code == 404
        assert (await client.delete(f"/v1/admin/keys/{others.key_id}", headers=bearing(operators))).status_code == 200

    async def test_a_tenant_is_there_with_its_first_key(self, client):
        made = (await client.post("/v1/admin/keys", json={"tenant": "new", "scopes": ["ask", "admin"]})).json()
        assert made["tenant"] == "new"
        operators = (await client.get("/v1/admin/tenants", headers=bearing(made["key"]))).status_code
        assert operators == 403


class TestEnds:
    """How a key ends."""

    async def test_a_revoked_key_is_refused_here_at_once(self, app, client):
        _, keeper = make(app.state.context.catalog)
        made, text = make(app.state.context.catalog)
        assert await status(client, key=text) == 200
        await client.delete(f"/v1/admin/keys/{made.key_id}", headers=bearing(keeper))
        refused = await client.get("/v1/collections", headers=bearing(text))
        assert (refused.status_code, "was revoked" in refused.json()["detail"]) == (401, True)

    async def test_and_on_another_gateway_within_seconds(self, catalog):
        clock = [0.0]
        elsewhere = Keyring(catalog, lambda: clock[0])
        made, text = make(catalog)
        assert (await elsewhere.verify(text)).key_id == made.key_id
        with catalog.write() as tx:
            keys.revoke(tx, None, made.key_id)
        clock[0] += LIFE_SECONDS
        with pytest.raises(Unauthorized, match="revoked"):
            await elsewhere.verify(text)
        await elsewhere.close()

    async def test_a_key_expires(self, catalog):
        _, text = make(catalog, expires_at=now() - 1)
        with pytest.raises(Unauthorized, match="expired"):
            await Keyring(catalog).verify(text)

    async def test_a_rotated_key_is_valid_a_while_longer(self, app, client):
        catalog = app.state.context.catalog
        old, text = make(catalog)
        fresh = (
            await client.post(f"/v1/admin/keys/{old.key_id}/rotate", json={"grace_seconds": 60}, headers=bearing(text))
        ).json()
        assert (fresh["scopes"], fresh["tenant"]) == (list(old.scopes), "local")
        assert [await status(client, key=one) for one in (text, fresh["key"])] == [200, 200]
        with catalog.read() as tx:
            assert 0 < keys.find(tx, old.key_id).expires_at - now() <= 60_000_000

    async def test_rotating_what_has_ended_is_a_conflict(self, app, client):
        _, keeper = make(app.state.context.catalog)
        ended, _ = make(app.state.context.catalog, expires_at=now() - HOUR_US)
        found = await client.post(f"/v1/admin/keys/{ended.key_id}/rotate", json={}, headers=bearing(keeper))
        assert found.status_code == 409

    async def test_its_last_use_is_noted_to_the_minute_and_once(self, catalog, monkeypatch):
        _, text = make(catalog)
        ring = Keyring(catalog)
        writes = []
        monkeypatch.setattr(keys, "used", lambda tx, *noted: writes.append(noted))
        for _ in range(5):
            await ring.verify(text)
        await ring.close()
        assert len({minute for _, minute in writes}) == len(writes) <= 2
        assert writes[0][1] % 60_000_000 == 0


class TestTiming:
    """What refusing takes does not depend on how much of a secret was right."""

    async def test_whole_digests_are_compared_whatever_the_key(self, catalog, monkeypatch):
        made, text = make(catalog)
        compared = []

        def comparing(left, right):
            compared.append((left, right))
            return compare_digest(left, right)

        monkeypatch.setattr(keyring_module.hmac, "compare_digest", comparing)
        ring = Keyring(catalog)
        for wrong in (text[:-1] + "-x", f"alm_{made.key_id}_x", "alm_unknown_x", "nothing"):
            with pytest.raises(Unauthorized):
                await ring.verify(wrong)
        assert len(compared) == 4
        assert {len(side) for pair in compared for side in pair} == {64}
        assert [right == made.digest for _, right in compared] == [True, True, False, False]

    async def test_the_catalog_is_asked_for_the_public_part_alone(self, catalog, monkeypatch):
        _, text = make(catalog)
        asked = []
        monkeypatch.setattr(keys, "find", lambda tx, key_id: asked.append(key_id))
        with pytest.raises(Unauthorized):
            await Keyring(catalog).verify(text)
        assert asked == [text.split("_")[1]]


class TestAudit:
    """What administrators do is on record."""

    async def test_an_action_is_on_record_with_its_outcome_and_without_secrets(self, client):
        made = (await client.post("/v1/admin/keys", json={"scopes": ["admin"], "name": "n"})).json()
        headers = bearing(made["key"])
        await client.post("/v1/documents/none/erase?collection=notes", headers=headers)
        await client.get("/v1/admin/keys", headers=headers)
        entries = (await client.get("/v1/admin/audit", headers=headers)).json()["entries"]
        assert [(one["action"], one["subject"], one["key_id"]) for one in entries] == [
            ("maintenance.erase", "none", made["id"]),
            ("keys.create", made["id"], ""),
        ]
        assert [one["detail"]["outcome"] for one in entries] == ["document-not-found", "done"]
        assert made["key"].split("_", 2)[2] not in str(entries)

    async def test_a_tenant_sees_its_own_entries(self, app, client):
        _, others = make(app.state.context.catalog, tenant="other")
        await client.post("/v1/admin/keys", json={}, headers=bearing(others))
        _, operators = make(app.state.context.catalog)
        await client.post("/v1/admin/keys", json={}, headers=bearing(operators))
        seen = (await client.get("/v1/admin/audit", headers=bearing(others))).json()["entries"]
        assert {one["tenant"] for one in seen} == {"other"}
        everything = (await client.get("/v1/admin/audit", headers=bearing(operators))).json()["entries"]
        assert {one["tenant"] for one in everything} == {"other", "local"}


async def test_every_route_that_is_not_public_asks_for_a_key_and_says_so(client):
    public = {"/healthz", "/readyz", "/metrics"}
    for path, methods in (await client.get("/openapi.json")).json()["paths"].items():
        for method, told in methods.items():
            assert ("security" in told) is (path not in public), (method, path)
            assert ({"401", "403", "429"} <= set(told["responses"])) is (path not in public), (method, path)


async def test_usage_is_counted_by_tenant_and_day(app, client):
    catalog = app.state.context.catalog
    question = ask(catalog)
    with catalog.write() as tx:
        cost = Cost(7, 3, 17, 640).usage()
        answers.record(tx, question.answer_id, 1, answers.DONE, said(question, "Yes.", usage=cost).to_json())
    again, failed = ask(catalog), ask(catalog)
    kept = said(again, "Yes.", usage=saved(cost), cached_from=question.answer_id).to_json()
    with catalog.write() as tx:
        answers.record(tx, again.answer_id, 1, answers.DONE, kept)
        answers.record(tx, failed.answer_id, 1, answers.FAILED, {"type": "x"})
        events.searched(tx, [events.Search("s", "local", COLLECTION, now(), ["port/harbour"])])
    [used] = (await client.get("/v1/admin/usage")).json()["usage"]
    assert used == {
        "tenant": "local",
        "day": format_instant(now())[:10],
        "answers": 2,
        "failed": 1,
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "encoder_texts": 17,
        "engine_ms": 640,
        "cached": 1,
        "saved_tokens": 10,
        "saved_texts": 17,
        "saved_ms": 640,
        "searches": 1,
    }
    _, others = make(catalog, tenant="other")
    assert (await client.get("/v1/admin/usage", headers=bearing(others))).json() == {"usage": []}


def test_httpx_sends_what_it_is_told():
    """The tests above forge Host and Origin; a client that mends them would make them vacuous."""
    request = httpx.Request("GET", "http://localhost/", headers={"host": "evil.example", "origin": "null"})
    assert (request.headers["host"], request.headers["origin"]) == ("evil.example", "null")
