"""Erasing and rebuilding, asked for over HTTP and on the command line."""

import json

import httpx
import pytest
from typer.testing import CliRunner

from services.admin.__main__ import app as almanac
from services.catalog import erasing, jobs
from tests.fakes.gateway import COLLECTION, answering, client_of, document, gateway

HERE = {"collection": COLLECTION}


@pytest.fixture
async def app(tmp_path):
    async with gateway(tmp_path, answering()) as started:
        yield started


async def test_an_erasure_is_a_job_that_is_told_where_it_is_followed(app):
    async with client_of(app) as client:
        response = await client.post(f"/v1/documents/{document().doc_id}/erase", params=HERE)
        job = response.json()["job"]
        assert (response.status_code, job["kind"], job["state"]) == (202, "erase", "queued")
        assert (await client.get(response.headers["location"])).json()["id"] == job["id"]
        again = await client.post(f"/v1/documents/{document().doc_id}/erase", params=HERE)
        assert again.json()["job"]["id"] == job["id"]
    assert app.state.context.broker.jobs == [job["id"], job["id"]]
    with app.state.context.catalog.read() as tx:
        assert erasing.under_way(tx, "local", COLLECTION) == {document().doc_id}


async def test_what_is_not_there_cannot_be_erased(app):
    async with client_of(app) as client:
        for doc_id, collection in (("nothing", COLLECTION), (document().doc_id, "nowhere")):
            response = await client.post(f"/v1/documents/{doc_id}/erase", params={"collection": collection})
            assert response.status_code == 404, response.text


async def test_an_erasure_is_refused_while_a_job_may_bring_the_document_back(app):
    with app.state.context.catalog.write() as tx:
        busy = jobs.create(tx, "local", COLLECTION, "documents", {"files": []})
    async with client_of(app) as client:
        response = await client.post(f"/v1/documents/{document().doc_id}/erase", params=HERE)
    assert response.status_code == 409 and busy.job_id in response.json()["detail"]


async def test_one_rebuild_at_a_time(app):
    async with client_of(app) as client:
        first, second = [(await client.post("/v1/admin/reindex/rebuild")).json()["job"] for _ in range(2)]
        assert first["kind"] == "rebuild" and first["id"] == second["id"]
        response = await client.post(f"/v1/documents/{document().doc_id}/erase", params=HERE)
    assert response.status_code == 409


def command(*arguments, asked=None, **given):
    """Run a command against a gateway that says each job is done at once."""

    def answer(request):
        if asked is not None:
            asked.append((request.method, request.url.raw_path.decode()))
        job = {"id": "j1", "kind": "erase", "collection": "c", "state": "done", "total": 9, "done": 9}
        return httpx.Response(200, json=job if request.method == "GET" else {"job": job})

    return CliRunner().invoke(almanac, arguments, obj=httpx.MockTransport(answer), **given)


def test_erase_asks_back_and_does_nothing_unless_told_yes():
    asked = []
    assert command("erase", "a/b c?", "-c", "notes", asked=asked, input="n\n").exit_code == 1 and not asked
    assert command("erase", "a/b c?", "-c", "notes", asked=asked, input="y\n").exit_code == 0
    assert asked[0] == ("POST", "/v1/documents/a/b%20c%3F/erase?collection=notes")


def test_rebuild_and_erase_print_the_job_alone_as_json():
    for arguments in (("reindex", "rebuild"), ("erase", "d", "--yes"), ("erase", "d", "--yes", "--no-wait")):
        done = command(*arguments, "--json")
        assert done.exit_code == 0 and json.loads(done.stdout)["job"]["state"] == "done", done.output
