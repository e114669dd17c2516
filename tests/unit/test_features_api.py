"""Features and profiles over HTTP and on the command line."""

import json

import httpx
import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from pipelines.advance import Readers
from services.admin.__main__ import app as almanac
from services.catalog.profiles import newest
from services.catalog.tables import answers
from services.common.errors import Conflict
from services.common.moment import format_instant, now
from services.common.nodes.features import FACTS, PROFILES, FeatureRow, Limits
from services.common.nodes.scope import Stretch
from services.features import views
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.gateway.caller import Caller, Scope, authenticate
from tests.fakes.gateway import COLLECTION, answering, client_of, gateway

PATH = "/v1/admin/features"
DAY_US = 86_400_000_000


@pytest.fixture
async def app(tmp_path):
    async with gateway(tmp_path, answering()) as started:
        node = PointInTimeFeatures(MemoryBackend(), wait_seconds=0.1)
        object.__setattr__(started.state.context.nodes, "features", node)
        await brought_up(started)
        yield started


async def brought_up(app):
    """Every view has the record of the one collection."""
    context = app.state.context
    [collection] = (await get(app, "/v1/collections"))["collections"]
    readers = Readers(context.catalog, None, None, context.nodes.features)
    recorded = await context.catalog.reading(lambda tx: newest_record(tx))
    for view in (FACTS, "documents", "usage"):
        await readers.advance_view(view, "local", collection["name"], recorded)
    return recorded


def newest_record(tx):
    from services.catalog.state import known_collections

    return known_collections(tx)[0][2]


async def get(app, path, status=200, **query):
    async with client_of(app) as client:
        response = await client.get(path, params=query)
    assert response.status_code == status, response.text
    return response.json()


async def post(app, path, body, status=200):
    async with client_of(app) as client:
        response = await client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


async def test_views_are_shown_with_what_they_hold(app):
    shown = {view["name"]: view for view in (await get(app, PATH))["views"]}
    assert shown[FACTS]["fields"]["answer"] == "str" and shown[FACTS]["materialized"] is None
    assert shown["documents"]["rows"] == 1
    assert list(shown["documents"]["watermarks"]) == [COLLECTION]


async def test_a_plan_is_shown_and_what_breaks_history_is_refused_as_a_conflict(app, monkeypatch):
    assert await post(app, f"{PATH}/apply", {"dry_run": True}) == {"changes": ["nothing changes"], "applied": False}

    async def refused(dry_run):
        raise Conflict("facts.count is int on record and cannot become str")

    monkeypatch.setattr(app.state.context.nodes.features, "apply", refused)
    assert "int on record" in (await post(app, f"{PATH}/apply", {"dry_run": True}, 409))["detail"]


async def test_the_online_store_is_brought_up_view_by_view_or_all_at_once(app):
    found = await post(app, f"{PATH}/materialize", {"view": FACTS})
    assert list(found["materialized"]) == [FACTS]
    assert len((await post(app, f"{PATH}/materialize", {}))["materialized"]) == len(views.VIEWS)
    await post(app, f"{PATH}/materialize", {"view": "nothing"}, 404)


async def test_a_training_set_is_joined_at_each_instant(app):
    features, position = app.state.context.nodes.features, await brought_up(app)

    async def batches():
        yield [FeatureRow("q", True, position, position + 1, {"answer": "yes"})]

    await features.append(FACTS, Stretch("local", COLLECTION, position, position + 1), batches())
    after, before = format_instant(now() + 1_000_000), format_instant(position - 1_000_000)
    body = {"view": FACTS, "collection": COLLECTION, "rows": [{"entity": "q", "at": at} for at in (before, after)]}
    rows = (await post(app, f"{PATH}/training", body))["rows"]
    assert [(row["at"], row["found"], row["values"].get("answer")) for row in rows] == [
        (before, False, None),
        (after, True, "yes"),
    ]
    assert "at" in json.dumps(await post(app, f"{PATH}/training", body | {"rows": [{"entity": "q"}]}, 400))
    await post(app, f"{PATH}/training", body | {"collection": "none"}, 404)
    early = body | {"rows": [{"entity": "q", "at": "1150-01-01"}]}
    assert "1678" in (await post(app, f"{PATH}/training", early, 400))["detail"]


async def test_all_is_well_where_every_view_is_fresh_and_every_value_sound(app):
    found = await get(app, f"{PATH}/check", collection=COLLECTION)
    assert found["holds"] and found["faults"] == [] and all(view["fresh"] for view in found["freshness"])
    assert {measure["psi"] for measure in found["drift"]["measures"]} == {None}
    assert b"almanac_features_check_faults 0.0" in app.state.context.metrics.exposition()
    await get(app, f"{PATH}/check", 404, collection="none")
    await get(app, f"{PATH}/check", 400, collection=COLLECTION, window_hours=0)


async def test_what_is_stale_empty_or_shifted_is_named_and_counted(app, monkeypatch):
    context = app.state.context
    position = await brought_up(app)
    limited = views.View(FACTS, views.VIEWS[FACTS].fields, limits={"answer": Limits(required=True)})
    monkeypatch.setattr("services.features.backends.memory.VIEWS", {**views.VIEWS, FACTS: limited})

    async def batches():
        yield [FeatureRow("q", True, position, position + 1, {"answer": ""})]

    await context.nodes.features.append(FACTS, Stretch("local", COLLECTION, position, position + 1), batches())
    await context.nodes.features.drop("documents", "local", COLLECTION)
    monkeypatch.setattr("services.gateway.checking.SETTLE_US", -1)
    with context.catalog.write() as tx:
        for number in range(80):
            words = "short" if number % 2 else "a question that goes on and on and on and does not want to end at all"
            at = now() - (2 * DAY_US if number % 2 else 0)
            record = {"question": words, "citations": [], "grounding": "quoted", "similarity": 0.5}
            row = {"answer_id": str(number), "tenant": "local", "collection": COLLECTION, "state": "done"}
            tx.execute(insert(answers).values(**row, attempt=1, request={}, record=record, created_at=at - 1))
    found = await get(app, f"{PATH}/check", collection=COLLECTION)
    assert not found["holds"]
    faults = "\n".join(found["faults"])
    assert f"documents of '{COLLECTION}' lacks" in faults
    assert "facts.answer is required, and 1 of 1 rows lack it" in faults
    assert "words of a question: the last window differs" in faults and "cosine" not in faults
    shifted = [measure["name"] for measure in found["drift"]["measures"] if measure["shifted"]]
    assert shifted == ["question_words"]
    metrics = context.metrics.exposition().decode()
    assert f"almanac_features_check_faults {len(found['faults'])}.0" in metrics
    assert 'measure="question_words"' in metrics


async def test_a_profile_is_recorded_whole_and_shown_as_it_stood(app):
    context = app.state.context
    tenants = {"plan": "team", "locale": "de-AT", "questions_per_day": 100}
    first = await post(app, "/v1/admin/profiles", tenants)
    await post(app, "/v1/admin/profiles", {"user": "ann", "adapter": "law"})
    assert context.broker.advanced == [("local", PROFILES)] * 2
    recorded = await context.catalog.reading(lambda tx: newest(tx, "local"))
    await Readers(context.catalog, None, None, context.nodes.features).advance_profiles("local", recorded)
    shown = await get(app, "/v1/admin/profiles", user="ann")
    assert shown["profile"] == {**tenants, "adapter": "law", "tokens_per_day": 0}
    then = await get(app, "/v1/admin/profiles", user="ann", known_at=first["recorded_at"])
    assert then["profile"]["adapter"] == ""
    assert (await get(app, PATH + "/check", collection=COLLECTION))["holds"]
    for wrong in ({"locale": "no locale"}, {"questions_per_day": -1}, {"colour": "red"}, {"user": "a b"}):
        await post(app, "/v1/admin/profiles", wrong, 400)


async def test_a_tenant_sets_its_users_profiles_and_not_its_own(app):
    app.dependency_overrides[authenticate] = lambda: Caller("acme", "", "k", frozenset({Scope.ADMIN}))
    await post(app, "/v1/admin/profiles", {"plan": "gold"}, 403)
    assert (await post(app, "/v1/admin/profiles", {"user": "ann", "locale": "fr"}))["tenant"] == "acme"
    await post(app, "/v1/admin/profiles", {"tenant": "local", "user": "ann"}, 403)
    await post(app, f"{PATH}/apply", {}, 403)
    await post(app, f"{PATH}/materialize", {}, 403)
    app.dependency_overrides[authenticate] = lambda: Caller("acme", "", "k", frozenset({Scope.ASK}))
    await get(app, PATH, 403)


def run(answers_, *command):
    """The command's result and what it asked."""
    asked = []

    def handle(request):
        body = json.loads(request.content) if request.content else dict(request.url.params)
        asked.append((request.method, request.url.path, body))
        return httpx.Response(200, json=answers_)

    return CliRunner().invoke(almanac, command, obj=httpx.MockTransport(handle)), asked


def test_the_plan_is_printed_a_change_a_line():
    result, asked = run({"changes": ["+ users", "~ facts: ttl"], "applied": False}, "features", "apply", "--dry-run")
    assert result.exit_code == 0 and result.output == "+ users\n~ facts: ttl\n"
    assert asked == [("POST", f"{PATH}/apply", {"dry_run": True})]


def test_a_check_that_finds_something_ends_with_1_and_says_what(tmp_path):
    from tests.unit.test_drift import FOUND

    result, asked = run(
        FOUND, "features", "check", "--reference", "4w", "--window", "2d", "--report", str(tmp_path / "r.html")
    )
    assert result.exit_code == 1 and "lacks <what>" in result.output and (tmp_path / "r.html").exists()
    assert asked[0][2] == {"collection": "default", "window_hours": "48", "reference_hours": "672"}
    result, _ = run({**FOUND, "holds": True, "faults": []}, "features", "check", "--json")
    assert result.exit_code == 0 and json.loads(result.output)["collection"] == "c"
    for wrong in (("--reference", "soon"), ("--report", "r.pdf")):
        result, asked = run(FOUND, "features", "check", *wrong)
        assert result.exit_code == 2 and not asked


def test_a_training_set_goes_from_file_to_file(tmp_path):
    wanted = tmp_path / "asked.jsonl"
    wanted.write_text('{"entity": "q", "at": "2020-01-01"}\n')
    row = {"entity": "q", "at": "2020-01-01", "found": True, "values": {"answer": "yes"}}
    result, asked = run({"rows": [row]}, "features", "training", FACTS, str(wanted), "--out", str(tmp_path / "o.jsonl"))
    assert result.exit_code == 0, result.output
    assert asked[0][2] == {
        **{"view": FACTS, "collection": "default"},
        **{"rows": [{"entity": "q", "at": "2020-01-01"}]},
    }
    assert json.loads((tmp_path / "o.jsonl").read_text()) == row


def test_views_and_profiles_are_shown():
    view = {
        **{"name": "facts", "rows": 3, "bytes": 2_000_000, "fields": {"a": "str"}, "materialized": None},
        **{"watermarks": {"c": "2026-01-01T00:00:00Z"}},
    }
    result, _ = run({"views": [view]}, "features", "list")
    assert "facts" in result.output and "never" in result.output and "c 2026-01-01" in result.output
    result, _ = run({"materialized": {"facts": "2026-01-01T00:00:00Z"}}, "features", "materialize", "facts")
    assert "2026-01-01" in result.output
    profile = {"tenant": "local", "user": "ann", "profile": {"plan": "team", "locale": ""}}
    result, asked = run(profile, "profiles", "set", "--user", "ann", "--plan", "team")
    assert result.exit_code == 0 and "team" in result.output
    assert asked[0][2]["user"] == "ann" and asked[0][2]["tokens_per_day"] == 0 and "tenant" not in asked[0][2]
    result, asked = run(profile, "profiles", "show", "--user", "ann", "--known-at", "2026-01-01")
    assert asked == [("GET", "/v1/admin/profiles", {"user": "ann", "known_at": "2026-01-01"})]
