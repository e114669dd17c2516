"""Jobs and synced folders over HTTP: cancelled, retried, listed by state; folders asked about and pruned."""

import json
from pathlib import Path

import pytest

from services.catalog import jobs
from services.gateway.retrying import _DUPLICATE
from tests.fakes.gateway import COLLECTION, answering, client_of, gateway

ROWS = [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]


@pytest.fixture
async def app(tmp_path):
    async with gateway(tmp_path, answering(), bulk_bytes=1_000) as started:
        yield started


@pytest.fixture
async def client(app):
    async with client_of(app) as opened:
        yield opened


async def sent(client, rows=ROWS, **fields):
    response = await client.post("/v1/documents", json={"documents": rows, **fields})
    return response.json()["job"]["id"]


def catalog(app):
    return app.state.context.catalog


def stored(app, job_id):
    with catalog(app).read() as tx:
        return jobs.by_id(tx, job_id)


def ended(app, job_id, state, *failures):
    with catalog(app).write() as tx:
        jobs.acquire(tx, job_id)
        jobs.progress(tx, job_id, 2, {"failed": len(failures)}, failures)
        jobs.finish(tx, job_id, state, "the encoder does not answer" if state == jobs.FAILED else "")


def failure(line, reason="text: a string is needed"):
    return {"source": "documents.jsonl", "line": line, "id": "", "reason": reason}


async def test_a_job_is_named_like_its_upload_and_bulk_from_a_size_on(app, client):
    small = stored(app, await sent(client))
    bulk = stored(app, await sent(client, [{"id": "a", "text": "x" * 2_000}]))
    assert (small.priority, bulk.priority) == (jobs.SMALL, jobs.BULK)
    assert Path(small.request["files"][0]["path"]).parent.name == small.job_id


async def test_cancel_ends_a_job_and_refuses_one_that_is_done(app, client):
    job = await sent(client)
    assert (await client.post(f"/v1/jobs/{job}/cancel")).json()["job"]["state"] == "cancelled"
    other = await sent(client)
    ended(app, other, jobs.DONE)
    refused = await client.post(f"/v1/jobs/{other}/cancel")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:almanac:error:conflict")
    assert (await client.post("/v1/jobs/none/cancel")).status_code == 404


async def test_failed_jobs_are_listed_with_their_reasons(app, client):
    job = await sent(client)
    await sent(client)
    ended(app, job, jobs.FAILED)
    [dead] = (await client.get("/v1/jobs?state=failed")).json()["jobs"]
    assert (dead["id"], dead["error"]) == (job, "the encoder does not answer")
    assert (await client.get("/v1/jobs?state=stuck")).status_code == 400


async def test_retry_queues_a_failed_job_again_and_sends_its_hint(app, client):
    job = await sent(client)
    assert (await client.post(f"/v1/jobs/{job}/retry")).status_code == 409
    ended(app, job, jobs.FAILED)
    again = await client.post(f"/v1/jobs/{job}/retry")
    assert (again.status_code, again.json()["job"]["state"], again.json()["job"]["done"]) == (202, "queued", 2)
    assert app.state.context.broker.jobs == [job, job]


async def test_without_its_upload_a_job_is_not_queued_again(app, client):
    job = await sent(client)
    ended(app, job, jobs.FAILED)
    Path(stored(app, job).request["files"][0]["path"]).unlink()
    refused = await client.post(f"/v1/jobs/{job}/retry")
    assert refused.status_code == 409 and "send the files again" in refused.json()["detail"]
    assert stored(app, job).state == jobs.FAILED


async def test_retry_of_failed_rows_is_a_new_job_over_the_same_bytes_once(app, client):
    job = await sent(client)
    ended(app, job, jobs.DONE, failure(2))
    new = (await client.post(f"/v1/jobs/{job}/retry?failed=true")).json()["job"]
    assert (new["state"], new["done"]) == ("queued", 0) and new["id"] != job
    [file] = stored(app, new["id"]).request["files"]
    assert Path(file["path"]).parent.name == new["id"]
    assert [json.loads(line)["id"] for line in Path(file["path"]).read_text().splitlines()] == ["a", "b"]
    assert stored(app, job).request["retried_as"] == new["id"]
    refused = await client.post(f"/v1/jobs/{job}/retry?failed=true")
    assert refused.status_code == 409 and new["id"] in refused.json()["detail"]
    assert {path.name for path in app.state.context.settings.uploads_dir.iterdir()} == {job, new["id"]}


@pytest.mark.parametrize(
    ("state", "failures", "fields", "word"),
    [
        (jobs.FAILED, [failure(1)], {}, "only the rows of one that is done"),
        (jobs.DONE, [], {}, "no failed rows"),
        (jobs.DONE, [failure(1)], {"history": True}, "import it anew"),
        (jobs.DONE, [failure(2, f"{_DUPLICATE} 'a' with the same valid_from")], {}, "whose first ones stand"),
    ],
)
async def test_failed_rows_are_not_tried_again_where_that_would_do_harm(app, client, state, failures, fields, word):
    job = await sent(client, **fields)
    ended(app, job, state, *failures)
    refused = await client.post(f"/v1/jobs/{job}/retry?failed=true")
    assert refused.status_code == 409 and word in refused.json()["detail"]


async def test_a_synced_folder_is_asked_about_and_pruned(app, client):
    url = f"/v1/collections/{COLLECTION}/sync/notes"
    assert (await client.get(url)).json() == {"files": {}, "pending": False}
    assert (await client.post(url, json={"removed": ["a.md"]})).json() == {"ended": 0}
    assert (await client.post(url, json={})).status_code == 400
    assert (await client.get("/v1/collections/a b/sync/notes")).status_code == 400
    files = [("files", ("a.md", b"# A", "text/markdown"))]
    job = (await client.post("/v1/documents", files=files, data={"sync": "notes"})).json()["job"]["id"]
    assert stored(app, job).request["sync"] == "notes"
    ended(app, job, jobs.DONE, failure(1))
    refused = await client.post(f"/v1/jobs/{job}/retry?failed=true")
    assert refused.status_code == 409 and "almanac sync" in refused.json()["detail"]


async def test_a_job_without_an_upload_is_queued_again_too(app, client):
    with catalog(app).write() as tx:
        job = jobs.create(tx, "local", COLLECTION, "reindex", {}).job_id
        jobs.acquire(tx, job)
        jobs.finish(tx, job, jobs.FAILED, "the retriever does not answer")
    assert (await client.post(f"/v1/jobs/{job}/retry")).status_code == 202
