"""The command line's keys: the home's own, who is sent it, and the commands that make and end them."""

import json
import stat

import httpx
import pytest
from typer.testing import CliRunner

from services.admin import local_key
from services.admin.__main__ import app
from services.admin.client import Gateway
from services.admin.context import gateway_key
from services.admin.settings import AdminSettings
from services.admin.state import Places, StackState, locked, write_state
from services.catalog import keys
from services.catalog.engine import Database
from services.gateway.__main__ import require_key_beyond_loopback
from services.gateway.settings import GatewaySettings

URL = "http://127.0.0.1:8420"


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("ALMANAC_HOME", str(tmp_path))
    monkeypatch.delenv("ALMANAC_API_KEY", raising=False)
    return AdminSettings()


def found_in(own, text):
    catalog = Database(own.catalog_url)
    try:
        with catalog.read() as tx:
            return keys.find(tx, text.split("_")[1])
    finally:
        catalog.close()


def run(*arguments, answers=None):
    """Exit code and output of a command, and the requests it sent."""
    sent = []

    def handle(request):
        sent.append((request.method, request.url.raw_path.decode(), json.loads(request.content or b"null")))
        return httpx.Response(200, json=answers)

    done = CliRunner().invoke(app, list(arguments), obj=httpx.MockTransport(handle))
    return done, sent


def test_a_home_has_a_key_that_only_its_owner_reads(own):
    local_key.ensure(own)
    place = Places(own.home).key
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    text = place.read_text().strip()
    made = found_in(own, text)
    assert (made.tenant, made.scopes, made.key_id[:5]) == ("local", ("admin", "ask", "ingest"), "local")
    assert made.digest == keys.digest(text.split("_", 2)[2])
    local_key.ensure(own)
    assert place.read_text().strip() == text


@pytest.mark.parametrize("kept", ["", "nonsense", "alm_local0000_x"])
def test_a_key_that_does_not_fit_the_catalog_is_replaced(own, kept):
    place = Places(own.home).key
    place.write_text(kept)
    place.chmod(0o644)
    local_key.ensure(own)
    assert found_in(own, place.read_text().strip()) is not None
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_the_homes_key_goes_to_the_homes_running_stack_alone(own, monkeypatch):
    local_key.ensure(own)
    text = Places(own.home).key.read_text().strip()
    assert gateway_key(own, URL) == ""
    with locked(Places(own.home), URL):
        write_state(Places(own.home), StackState(1, 8420, URL))
        assert gateway_key(own, URL) == text
        assert gateway_key(own, "http://127.0.0.1:9999") == ""
        assert gateway_key(own, "http://almanac.example") == ""
    monkeypatch.setenv("ALMANAC_API_KEY", "alm_given_x")
    assert gateway_key(AdminSettings(), "http://almanac.example") == "alm_given_x"


def test_a_client_sends_its_key_as_a_bearer():
    seen = []
    transport = httpx.MockTransport(lambda request: seen.append(request.headers) or httpx.Response(200, json={}))
    Gateway(URL, transport, "alm_a_b").get("/v1/collections")
    Gateway(URL, transport).get("/v1/collections")
    assert [headers.get("authorization") for headers in seen] == ["Bearer alm_a_b", None]


def test_a_settings_dump_hides_the_key(own, monkeypatch):
    monkeypatch.setenv("ALMANAC_API_KEY", "alm_given_x")
    assert "given" not in repr(AdminSettings())


def test_a_key_can_be_made_before_a_gateway_runs(own):
    done, sent = run("keys", "create", "--direct", "--scope", "admin", "--scope", "ask", "--tenant", "acme", "--json")
    assert (done.exit_code, sent) == (0, [])
    made = json.loads(done.stdout)
    assert found_in(own, made["key"]).tenant == "acme"
    assert run("keys", "create", "--direct", "--scope", "root")[0].exit_code == 1


def test_beyond_loopback_a_gateway_needs_a_key_to_start(own):
    local_key.ensure(own)
    wide = GatewaySettings(home=own.home, host="0.0.0.0")
    require_key_beyond_loopback(GatewaySettings(home=own.home))
    with pytest.raises(SystemExit, match="keys create --direct"):
        require_key_beyond_loopback(wide)
    run("keys", "create", "--direct")
    require_key_beyond_loopback(wide)


KEY = {"id": "k1", "tenant": "t", "user": "", "name": "n", "scopes": ["ask"], "valid": True, "expires_at": None}


@pytest.mark.parametrize(
    ("command", "answers", "request_", "shown"),
    [
        (
            ["keys", "create", "--name", "n", "--expires", "2030-01-01"],
            {"key": "alm_k1_s", **KEY},
            ("POST", "/v1/admin/keys", {"scopes": ["ask"], "name": "n", "user": "", "expires_at": "2030-01-01"}),
            "alm_k1_s",
        ),
        (
            ["keys", "list"],
            {"keys": [{**KEY, "used_at": None}]},
            ("GET", "/v1/admin/keys", None),
            "k1\tt\t\tn\task\tyes",
        ),
        (["keys", "revoke", "k1"], KEY, ("DELETE", "/v1/admin/keys/k1", None), "key k1 is revoked"),
        (
            ["keys", "rotate", "k1", "--grace", "5"],
            {"key": "alm_k2_s", **KEY},
            ("POST", "/v1/admin/keys/k1/rotate", {"grace_seconds": 5}),
            "alm_k2_s",
        ),
        (["tenants", "list"], {"tenants": [{"name": "t"}]}, ("GET", "/v1/admin/tenants", None), "t"),
        (
            ["audit", "--limit", "1"],
            {
                "entries": [
                    {"created_at": "2026", "tenant": "t", "key_id": "k", "action": "a", "subject": "s", "detail": {}}
                ]
            },
            ("GET", "/v1/admin/audit?limit=1", None),
            "2026\tt\tk\ta\ts\tcut off",
        ),
        (
            ["usage", "--days", "2"],
            {
                "usage": [
                    {
                        "day": "2026-01-01",
                        "tenant": "t",
                        "answers": 3,
                        "failed": 1,
                        "prompt_tokens": 5,
                        "completion_tokens": 7,
                        "encoder_texts": 17,
                        "engine_ms": 640,
                        "cached": 1,
                        "saved_tokens": 9,
                        "saved_texts": 16,
                        "saved_ms": 600,
                        "searches": 2,
                    }
                ]
            },
            ("GET", "/v1/admin/usage?days=2", None),
            "2026-01-01\tt\t3\t1\t5\t7\t17\t640\t1\t9\t16\t600\t2",
        ),
    ],
)
def test_a_command_asks_the_gateway_and_shows_what_it_says(own, command, answers, request_, shown):
    done, sent = run(*command, answers=answers)
    assert (done.exit_code, sent) == (0, [request_]), done.output
    assert shown in done.output
    as_json, _ = run(*command, "--json", answers=answers)
    assert json.loads(as_json.stdout) == answers


def test_the_link_to_the_page_carries_the_key_in_its_fragment(own, monkeypatch):
    assert run("keys", "link")[0].exit_code == 1
    monkeypatch.setenv("ALMANAC_API_KEY", "alm_given_x")
    assert run("keys", "link")[0].stdout.strip() == f"{URL}/#key=alm_given_x"


def test_the_first_key_is_made_once(own):
    wanted = ("keys", "create", "--direct", "--first", "--scope", "admin")
    made, _ = run(*wanted)
    assert made.exit_code == 0 and made.stdout.startswith("alm_")
    again, _ = run(*wanted)
    assert again.exit_code == 0 and again.stdout == ""
    alone, sent = run("keys", "create", "--first")
    assert alone.exit_code == 2 and not sent
