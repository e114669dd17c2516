"""Generations over HTTP and on the command line."""

import json

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.rotate import fit
from services.admin.__main__ import app as almanac
from services.catalog import generations, jobs
from services.common.errors import InvalidRequest, Unavailable
from services.common.moment import now
from services.common.nodes.funnel import DEFAULT
from services.common.nodes.retriever import Standing
from services.gateway.routes import generations as routes
from tests.fakes.gateway import answering, client_of, gateway

PATH = "/v1/admin/generations"
MODEL = "all-MiniLM-L6-v2"
PASSED = {"passed": True, "reasons": [], "against": "g1", "checked_at": "2026-01-01T00:00:00Z"}


class Index:
    """Stands in for the retriever."""

    down = False

    async def standing(self, name):
        if self.down:
            raise Unavailable("the retriever does not answer")
        return Standing(7, 2, 4096, 0, False) if name == "g1" else None


@pytest.fixture
async def app(tmp_path, monkeypatch):
    monkeypatch.setattr(routes, "_LOOKS", 1)
    async with gateway(tmp_path, answering()) as started:
        object.__setattr__(started.state.context.nodes, "retriever", Index())
        yield started


async def started(app, **asked):
    async with client_of(app) as client:
        return await client.post(PATH, json=asked)


async def test_what_is_not_said_is_as_the_live_encoder_and_the_default_funnel(app):
    response = await started(app)
    found = response.json()
    assert response.status_code == 202 and response.headers["location"].endswith(found["job"]["id"])
    assert found["generation"] | {"created_at": ""} == {
        **{"name": "g2", "state": "building", "encoder": MODEL, "dimensions": 64, "funnel": DEFAULT.to_json()},
        **{"behind": 1, "verdict": None, "created_at": "", "switched_at": None},
    }
    assert found["job"]["kind"] == "reindex" and app.state.context.broker.jobs == [found["job"]["id"]]
    with app.state.context.catalog.read() as tx:
        assert jobs.by_id(tx, found["job"]["id"]).priority == jobs.LONG


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"dimensions": 32}, (32, "pca")),
        ({"dimensions": 32, "rotation": "none"}, (32, "none")),
        ({"dimensions": 64}, (0, "none")),
        ({"dimensions": 64, "rotation": "pca"}, (64, "pca")),
        ({"quantization": "int8", "rescore": False, "accept_loss": True}, (0, "none")),
    ],
)
async def test_fewer_dimensions_are_rotated_unless_said_otherwise(app, asked, kept):
    funnel = (await started(app, **asked)).json()["generation"]["funnel"]
    assert (funnel["dimensions"], funnel["rotation"]) == kept


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"encoder": "none-such"}, "does not serve 'none-such'"),
        ({"dimensions": 65}, "gives 64"),
        ({"dimensions": -1}, "greater than or equal to 0"),
        ({"quantization": "ternary"}, "binary"),
        ({"rescore": False}, "accept_loss"),
        ({"rotation": "pca"}, "dimensions"),
        ({"oversampling": 0.5}, "between 1 and 100"),
        ({"dimension": 3}, "dimension"),
    ],
)
async def test_nonsense_is_refused_at_the_door(app, asked, said):
    response = await started(app, **asked)
    assert response.status_code == 400 and said in response.text, response.text
    with app.state.context.catalog.read() as tx:
        assert len(generations.standings(tx)) == 1


async def test_a_second_build_is_refused_while_one_goes_on(app):
    await started(app)
    response = await started(app)
    assert response.status_code == 409 and "g2" in response.json()["detail"]


async def test_status_tells_what_catalog_index_and_job_say(app):
    await started(app)
    async with client_of(app) as client:
        live, built = (await client.get(PATH)).json()["generations"]
        Index.down = True
        lost = (await client.get(PATH)).json()["generations"][0]["index"]
        Index.down = False
    sizes = {"disk_bytes": 4096, "memory_bytes": None}
    assert live["index"] == {"points": 7, "unbuilt": 2, **sizes, "building": False} and live["job"] is None
    assert live["state"] == "live" and live["behind"] == 0
    assert built["index"] is None and built["job"]["state"] == "queued" and built["behind"] == 1
    assert lost == {"error": "the retriever does not answer"}


async def test_a_switch_is_refused_without_a_verdict_unless_its_name_is_repeated(app):
    await started(app)
    with app.state.context.catalog.write() as tx:
        generations.mark_ready(tx, "g2")
    async with client_of(app) as client:
        refused = await client.post(f"{PATH}/g2/switch", json={})
        assert refused.status_code == 409 and "verif" in refused.json()["detail"]
        assert (await client.post(f"{PATH}/g2/switch", json={"force": "g1"})).status_code == 400
        forced = await client.post(f"{PATH}/g2/switch", json={"force": "g2"})
        assert forced.json() == {"live": "g2", "kept": "g1"}
        assert (await client.post(f"{PATH}/rollback")).json() == {"live": "g1", "kept": "g2", "behind": 0}
        assert (await client.delete(f"{PATH}/g1")).status_code == 409
        assert (await client.delete(f"{PATH}/g2")).json() == {"dropped": "g2"}
        assert (await client.post(f"{PATH}/rollback")).status_code == 409
        assert (await client.post(f"{PATH}/g2/switch", json={})).status_code == 404


async def test_a_verified_generation_is_switched_to(app):
    await started(app)
    with app.state.context.catalog.write() as tx:
        generations.mark_ready(tx, "g2")
        generations.record_verdict(tx, "g2", {**PASSED, "checked_us": now()})
    async with client_of(app) as client:
        job = (await client.post(f"{PATH}/g2/verify")).json()["job"]
        assert job["kind"] == "verify" and job["id"] in app.state.context.broker.jobs
        assert (await client.post(f"{PATH}/g2/switch", json={})).json() == {"live": "g2", "kept": "g1"}


def command(*arguments, passed=True):
    """Run a command against a gateway where everything is done at once; the requests it got, and how it ended."""
    asked = []
    verdict = {"passed": passed, "reasons": [] if passed else ["recall@10 is 0.5"], "against": "g1", "points": 9}
    verdict |= {"collections": 1, "asked": 3, "overlap@10": 0.9, "recall@10": {"g2": 0.5}, "checked_at": "2026-01-01"}
    index = {"points": 9, "unbuilt": 0, "disk_bytes": 2**21, "memory_bytes": None, "building": False}
    one = {"name": "g2", "state": "ready", "encoder": MODEL, "dimensions": 64, "funnel": DEFAULT.to_json()}
    one |= {"behind": 0, "index": index, "verdict": verdict}
    job = {"id": "j1", "kind": "reindex", "collection": "*", "state": "done", "total": 9, "done": 9}

    def answer(request):
        asked.append((request.method, request.url.path, json.loads(request.content or "null")))
        if request.url.path.startswith("/v1/jobs"):
            return httpx.Response(200, json=job)
        body = {"generations": [one | {"job": job}]} if request.method == "GET" else {"job": job, "generation": one}
        return httpx.Response(200, json=body if "rollback" not in request.url.path else {"live": "g1", "kept": "g2"})

    return CliRunner().invoke(almanac, ["reindex", *arguments], obj=httpx.MockTransport(answer)), asked


def test_start_sends_what_was_given_and_nothing_else():
    done, asked = command("start", "--encoder", "e", "--dimensions", "32", "--no-lexical", "--json")
    body = {"encoder": "e", "dimensions": 32, "lexical": False, "accept_loss": False}
    assert done.exit_code == 0 and asked[0] == ("POST", PATH, body)
    assert json.loads(done.stdout)["job"]["state"] == "done"


def test_status_is_one_line_a_generation():
    done, _ = command("status")
    assert done.stdout.split("\t")[:7] == ["g2", "ready", MODEL, "64 of 64 binary x4 dbsf", "9", "2.0", "?"]


def test_a_failed_verification_is_told_with_its_reasons_and_exit_code_1():
    good, _ = command("verify", "g2")
    assert good.exit_code == 0 and good.stdout.startswith("passed against g1")
    bad, _ = command("verify", "g2", passed=False)
    assert bad.exit_code == 1 and "- recall@10 is 0.5" in bad.stdout


def test_switch_rollback_and_drop_reach_their_doors():
    for arguments, request in (
        (("switch", "g2", "--force", "g2"), ("POST", f"{PATH}/g2/switch", {"force": "g2"})),
        (("rollback",), ("POST", f"{PATH}/rollback", {})),
        (("drop", "g2"), ("DELETE", f"{PATH}/g2", None)),
    ):
        done, asked = command(*arguments, "--json")
        assert done.exit_code == 0 and asked == [request], done.output


def test_a_basis_keeps_the_directions_that_matter_and_is_the_same_each_time():
    dice = np.random.default_rng(1)
    sample = (dice.normal(size=(400, 12)) * np.geomspace(4, 0.1, 12) + 1.0).astype(np.float32)
    basis = fit(sample, 4)
    assert basis.dtype == np.float32 and basis.shape == (4, 12) and np.array_equal(basis, fit(sample, 4))
    assert np.allclose(basis @ basis.T, np.eye(4), atol=1e-5)
    left = np.linalg.norm(sample - sample @ basis.T @ basis)
    axes = np.linalg.qr(dice.normal(size=(12, 4)))[0].T
    assert left < np.linalg.norm(sample - sample @ axes.T @ axes)
    assert left == pytest.approx(np.sqrt((np.linalg.svd(sample)[1][4:] ** 2).sum()), rel=1e-4)
    with pytest.raises(InvalidRequest, match="corpus has 3"):
        fit(sample[:3], 4)
