"""The gateway's native API: what it gives, and what it refuses in words that help."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from services.catalog import answers, jobs
from services.common.errors import Internal, MomentViolation, Unavailable
from services.gateway.dispatch import Dispatcher
from services.gateway.listening import listen
from services.gateway.metrics import Metrics
from services.gateway.routes.search import SearchAnswer
from services.orchestrator.graph.answer import Event
from tests.fakes.gateway import (
    COLLECTION,
    TEXT,
    MemoryBroker,
    answering,
    ask,
    client_of,
    document,
    gateway,
    nodes_over,
    said,
)

HERE = {"collection": COLLECTION}
ASK = {"question": "When did the harbour open?", **HERE}


@pytest.fixture
async def app(tmp_path):
    async with gateway(tmp_path, answering()) as started:
        yield started


@pytest.fixture
async def client(app):
    async with client_of(app) as opened:
        yield opened


def context(app):
    return app.state.context


def events_in(text):
    """(name, data) of each server-sent event; comments as (':', comment)."""
    found = []
    for block in text.strip().split("\n\n"):
        if block.startswith(":"):
            found.append((":", block))
            continue
        event = [line for line in block.split("\n") if not line.startswith(("id: ", "retry: "))]
        if not event:  # only what to come back with, before the first event
            continue
        name, data = event
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_an_answer_comes_whole_with_its_moment_and_citations(client):
    answer = (await client.post("/v1/answers", json=ASK)).json()
    assert answer["answer"] == "It opened in 1901."
    assert answer["collection"] == COLLECTION
    assert answer["grounding"] == "generated"
    assert answer["citations"][0]["quote"] == TEXT[:27]
    assert answer["moment"]["as_of"].endswith("Z")


async def test_an_answer_streams_as_events_that_end_with_it(client):
    response = await client.post("/v1/answers", json={**ASK, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_in(response.text)
    assert [name for name, _ in events] == ["step", "citation", "text", "text", "done"]
    assert "".join(data["text"] for name, data in events if name == "text") == "It opened in 1901."
    assert events[-1][1]["answer"]["answer"] == "It opened in 1901."


async def test_a_quiet_stream_carries_heartbeats(tmp_path):
    async def slow(question, emit):
        await asyncio.sleep(0.25)
        await emit(Event("done", {"answer": said(question, "").to_json()}))

    async with gateway(tmp_path, slow, heartbeat_seconds=0.1) as app, client_of(app) as client:
        events = events_in((await client.post("/v1/answers", json={**ASK, "stream": True})).text)
    *beats, last = [name for name, _ in events]
    assert last == "done" and len(beats) >= 2 and set(beats) == {":"}


async def test_a_follow_up_is_recorded_as_read_and_as_put(tmp_path):
    asked = []

    async def answer(question, emit):
        asked.append((question.text, question.original))
        await emit(Event("done", {"answer": said(question, "").to_json()}))

    history = [{"question": "When did the old harbour open?", "answer": "In 1901. [1]"}]
    async with gateway(tmp_path, answer) as app, client_of(app) as client:
        for question in ("Who built it?", "Who built the bridge?"):
            await client.post("/v1/answers", json={**ASK, "question": question, "history": history})
        wrong = await client.post("/v1/answers", json={**ASK, "history": [{"answer": "In 1901."}]})
    assert asked == [("Who built the old harbour?", "Who built it?"), ("Who built the bridge?", "")]
    assert wrong.status_code == 400


async def test_the_question_is_pinned_to_one_moment_and_committed_before_it_is_asked(tmp_path):
    asked = []

    async def answer(question, emit):
        with app.state.context.catalog.read() as tx:
            asked.append((question, answers.asked(tx, question.tenant, question.answer_id)))
        await emit(Event("done", {"answer": said(question, "").to_json()}))

    async with gateway(tmp_path, answer) as app, client_of(app) as client:
        given = {"as_of": "2019-03-01", "filters": {"kind": ["a", "b"]}, "generate": False, "max_tokens": 12}
        await client.post("/v1/answers", json={**ASK, **given})
    [(question, stored)] = asked
    assert type(question).from_json(stored) == question
    assert stored["answer_id"] == question.answer_id
    assert question.moment.as_of == 1_551_398_400_000_000
    assert (question.generate, question.max_tokens) == (False, 12)
    assert question.filters == {"kind": ["a", "b"]}


async def test_a_recorded_answer_is_found_again_and_an_unknown_one_is_not(app, client):
    question = ask(context(app).catalog)
    with context(app).catalog.write() as tx:
        answers.record(tx, question.answer_id, 1, answers.DONE, said(question, "Yes.").to_json())
    assert (await client.get(f"/v1/answers/{question.answer_id}")).json()["answer"] == "Yes."
    missing = await client.get("/v1/answers/none")
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:almanac:error:answer-not-found")


BAD_QUESTIONS = [
    ({"question": ""}, "question"),
    ({"question": "  \n "}, "question"),
    ({"question": "x" * 2_001}, "2001 characters"),
    ({"question": "a\x00b"}, "NUL"),
    ({"question": None}, "question"),
    ({"question": ["When?"]}, "question"),
    ({"as_of": "yesterday"}, "as_of"),
    ({"as_of": "2019-02-30"}, "as_of"),
    ({"as_of": "0000-01-01"}, "as_of"),
    ({"as_of": ""}, "as_of"),
    ({"as_of": 2019}, "as_of"),
    ({"known_at": "2019-13-01"}, "known_at"),
    ({"known_at": "9000-01-01"}, "future"),
    ({"collection": "../etc"}, "collection"),
    ({"collection": ""}, "collection"),
    ({"tenant": "other"}, "tenant"),
    ({"qestion": "When?"}, "qestion"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 100_000}, "max_tokens"),
    ({"filters": {"kind": "a"}}, "filters.kind"),
    ({"filters": {"kind": []}}, "filters.kind"),
    ({"stream": "perhaps"}, "stream"),
]


@pytest.mark.parametrize(("change", "named"), BAD_QUESTIONS)
async def test_a_mistake_in_a_question_is_a_400_that_names_it(client, change, named):
    response = await client.post("/v1/answers", json={**ASK, **change})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert named in response.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"nonsense", b'{"question": "\\ud800"}', b"\xff", b"[" * 5_000])
async def test_a_body_that_is_no_json_object_is_a_400(client, body):
    response = await client.post("/v1/answers", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["title"] == "Invalid request"


async def test_an_unknown_collection_is_a_404_that_names_it(client):
    for path, body in (("/v1/answers", ASK), ("/v1/search", {"query": "harbour"})):
        response = await client.post(path, json={**body, "collection": "nowhere"})
        assert response.status_code == 404
        assert "'nowhere'" in response.json()["detail"]


async def test_an_unknown_page_and_a_wrong_method_are_problems(client):
    for method, path, status in (("GET", "/v1/nothing", 404), ("DELETE", "/v1/answers", 405)):
        response = await client.request(method, path)
        assert response.status_code == response.json()["status"] == status
        assert response.headers["content-type"] == "application/problem+json"
        assert path in response.json()["detail"]


async def test_no_header_and_no_query_names_another_tenant(tmp_path):
    tenants = []

    async def answer(question, emit):
        tenants.append(question.tenant)
        await emit(Event("done", {"answer": said(question, "").to_json()}))

    names = ("tenant", "x-tenant", "x-almanac-tenant", "almanac-tenant")
    async with gateway(tmp_path, answer) as app, client_of(app) as client:
        headers = dict.fromkeys(names, "other")
        await client.post("/v1/answers?tenant=other", json=ASK, headers=headers)
        found = await client.post("/v1/search?tenant=other", json={"query": "x", **HERE}, headers=headers)
    assert tenants == ["local"]
    assert found.status_code == 200
    assert {query.scope.tenant for query in app.state.context.nodes.retriever.queries} == {"local"}


async def test_a_node_that_is_down_is_a_503_that_says_when_to_come_back(tmp_path):
    async def answer(question, emit):
        await emit(Event("error", {"problem": Unavailable("the retriever is away").problem()}))

    async with gateway(tmp_path, answer) as app, client_of(app) as client:
        response = await client.post("/v1/answers", json=ASK)
    assert (response.status_code, response.json()["detail"]) == (503, "the retriever is away")
    assert int(response.headers["retry-after"]) > 0


async def test_what_nobody_foresaw_is_a_500_without_a_traceback(app, client, monkeypatch):
    def breaks(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("services.gateway.routes.collections.list_collections", breaks)
    response = await client.get("/v1/collections")
    assert (response.status_code, response.json()["type"]) == (500, f"urn:almanac:error:{Internal.type}")
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_an_answer_that_ends_without_a_word_is_a_500_and_not_a_wait(tmp_path):
    async def dies(question, emit):
        raise ZeroDivisionError

    async with gateway(tmp_path, dies) as app, client_of(app) as client:
        async with asyncio.timeout(2):
            assert (await client.post("/v1/answers", json=ASK)).status_code == 500


async def test_a_client_that_leaves_stops_the_graph(tmp_path):
    stopped = asyncio.Event()

    async def graph(nodes, question, emit, prefix):
        await emit(Event("text", {"text": "It"}))
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with gateway(tmp_path, answering()) as app:
        catalog = context(app).catalog
        dispatcher = Dispatcher(nodes_over(catalog), MemoryBroker(down=True), Metrics(), 30, run=graph)
        using = type(context(app))(context(app).settings, catalog, None, None, dispatcher.answer, Metrics())
        events = listen(using, ask(catalog), 1)
        assert [event.data for event in await anext(events)] == [{"text": "It"}]
        await events.aclose()
        async with asyncio.timeout(2):
            await stopped.wait()


async def test_every_response_carries_the_security_headers(client):
    for path in ("/", "/docs", "/healthz", "/v1/collections", "/nothing", "/v1/answers/none"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


async def test_pages_load_nothing_from_elsewhere(client):
    for path in ("/", "/docs", "/static/style.css", "/static/docs.js"):
        response = await client.get(path)
        assert response.status_code == 200
        assert "http://" not in response.text.replace("curl -s localhost", "")
        assert "https://" not in response.text


async def test_search_gives_passages_with_their_spans(app, client):
    body = {"query": "harbour", **HERE, "limit": 3, "filters": {"kind": ["a"]}}
    found = (await client.post("/v1/search", json=body)).json()
    [hit] = found["hits"]
    assert (hit["n"], hit["doc_id"], hit["text"], hit["section"]) == (1, "port/harbour", TEXT, ["History"])
    assert TEXT[hit["start"] : hit["end"]] == hit["text"]
    assert (hit["score"], hit["dense"], hit["lexical"]) == (0.5, 0.9, 1.5)
    assert (hit["valid_from"], hit["valid_to"], hit["dated"]) == (None, None, False)
    assert (found["generation"], found["degraded"]) == ("g1", [])
    [query] = context(app).nodes.retriever.queries
    assert (query.limit, query.filters) == (3, {"kind": ["a"]})


async def test_an_explained_search_tells_ranks_stages_and_the_generation(client):
    found = (await client.post("/v1/search", json={"query": "harbour", **HERE, "explain": True})).json()
    [hit] = found["hits"]
    assert (hit["n"], hit["dense_rank"], hit["lexical_rank"]) == (1, 1, 2)
    plan = found["explain"]
    assert plan["stages"] == [{"name": "dense", "method": "codes", "passing": 1, "points": 3, "ms": 0.25}]
    assert (plan["generation"], plan["encoder"], plan["dimensions"]) == ("g1", "all-MiniLM-L6-v2", 64)
    assert plan["funnel"]["quantization"] == "none" and set(found["timings_ms"]) == {"encode", "retrieve", "rank"}
    assert [feature["name"] for feature in hit["features"]] == ["recency", "authority", "cited", "helpful"]
    assert "explain" not in (await client.post("/v1/search", json={"query": "harbour", **HERE})).json()


async def test_openapi_describes_a_search_as_it_is(app, client):
    found = (await client.post("/v1/search", json={"query": "harbour", **HERE, "explain": True})).json()
    schemas = app.openapi()["components"]["schemas"]
    for name, held in (("SearchAnswer", found), ("SearchHitBody", found["hits"][0]), ("Explanation", found["explain"])):
        assert set(schemas[name]["properties"]) == set(held)
    assert SearchAnswer.model_validate(found, strict=True).model_dump() == found
    [body] = app.openapi()["paths"]["/v1/search"]["post"]["requestBody"]["content"].values()
    assert body["schema"]["properties"]["explain"]["default"] is False


@pytest.mark.parametrize("change", [{"query": " "}, {"query": "x" * 2_001}, {"limit": 0}, {"limit": 101}, {"k": 3}])
async def test_a_mistake_in_a_search_is_a_400(client, change):
    response = await client.post("/v1/search", json={"query": "harbour", **HERE, **change})
    assert response.status_code == 400


async def test_a_hit_the_moment_forbids_is_never_shown(client):
    response = await client.post("/v1/search", json={"query": "harbour", **HERE, "known_at": "1990-01-01"})
    assert response.json()["type"] == f"urn:almanac:error:{MomentViolation.type}"
    assert TEXT not in response.text


async def test_collections_documents_and_versions_are_listed(client):
    [collection] = (await client.get("/v1/collections")).json()["collections"]
    assert (collection["name"], collection["documents"], collection["passages"]) == (COLLECTION, 1, 1)
    assert collection["recorded_to"].endswith("Z")
    [listed] = (await client.get("/v1/documents", params=HERE)).json()["documents"]
    assert listed == {"doc_id": "port/harbour", "title": "Harbour", "versions": 1}
    [version] = (await client.get("/v1/documents/port/harbour/versions", params=HERE)).json()["versions"]
    assert version["title"] == "Harbour"
    assert (version["valid_from"], version["valid_to"], version["recorded_to"]) == (None, None, None)
    assert version["dated"] is False


async def test_an_unknown_document_and_a_bad_listing_are_refused(client):
    assert (await client.get("/v1/documents/none/versions", params=HERE)).status_code == 404
    assert (await client.get("/v1/documents", params={"collection": "nowhere"})).status_code == 404
    response = await client.get("/v1/documents", params={**HERE, "limit": "many"})
    assert response.status_code == 400
    assert "limit" in response.json()["detail"]


async def test_readiness_needs_the_nodes_and_names_what_is_missing(client):
    response = await client.get("/readyz")
    assert response.status_code == 503
    body = response.json()
    assert body["ready"] is False
    assert body["components"] == {
        **dict.fromkeys(("catalog", "broker"), True),
        **dict.fromkeys(("encoder", "retriever", "features", "generator", "worker"), False),
    }
    assert (await client.get("/healthz")).status_code == 200


async def test_metrics_count_requests_by_route(client):
    await client.get("/v1/answers/none")
    await client.get("/nothing/here")
    text = (await client.get("/metrics")).text
    assert 'almanac_http_requests_total{method="GET",route="/v1/answers/{answer_id}",status="404"} 1.0' in text
    assert 'almanac_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text


def files(*named):
    return [("files", (name, content)) for name, content in named]


async def stored_job(app, response):
    assert response.status_code == 202
    job = response.json()["job"]
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    with context(app).catalog.read() as tx:
        return job, jobs.get(tx, "local", job["id"])


async def test_uploaded_files_are_stored_and_a_job_is_queued(app, client):
    data = {"collection": "new", "valid_from": "2019-03-01", "history": "true"}
    sent = files(("a.md", b"# A"), ("../../etc/b.txt", b"B"), ("c.jsonl.gz", gzip.compress(b"{}\n")))
    job, stored = await stored_job(app, await client.post("/v1/documents", files=sent, data=data))
    assert (job["kind"], job["collection"], job["state"], job["total"], job["done"]) == (
        *("documents", "new", "queued"),
        None,
        0,
    )
    assert job["counts"]["versions"] == 0
    assert "note" not in job
    named = {file["name"]: Path(file["path"]) for file in stored.request["files"]}
    assert list(named) == ["a.md", "etc/b.txt", "c.jsonl.gz"]
    assert named["etc/b.txt"].read_bytes() == b"B"
    assert all(path.is_relative_to(context(app).settings.uploads_dir) for path in named.values())
    assert {file["valid_from"] for file in stored.request["files"]} == {"2019-03-01"}
    assert stored.request["history"] is True
    assert context(app).broker.jobs == [job["id"]]


async def test_documents_in_json_are_stored_as_lines(app, client):
    given = [
        {"id": "a", "text": "Grüße", "valid_from": "2019-03-01", "metadata": {"kind": "x", "n": 1}},
        {"id": 7, "text": "B", "title": None},
    ]
    response = await client.post("/v1/documents", json={"documents": given, **HERE})
    _, stored = await stored_job(app, response)
    [file] = stored.request["files"]
    assert file["name"] == "documents.jsonl"
    lines = Path(file["path"]).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [given[0], {"id": 7, "text": "B"}]


async def test_facts_come_as_json_and_as_a_file(app, client):
    fact = {"question": "Who?", "answer": "Ada", "also_accepted": ["A. L."], "valid_from": "1843-01-01"}
    _, stored = await stored_job(app, await client.post("/v1/facts", json={"facts": [fact]}))
    assert stored.kind == "facts"
    assert json.loads(Path(stored.request["files"][0]["path"]).read_text()) == fact
    response = await client.post("/v1/facts", files=files(("f.jsonl", json.dumps(fact).encode())))
    assert (await stored_job(app, response))[1].collection == "default"


async def test_an_empty_file_does_not_keep_the_others_out(app, client):
    response = await client.post("/v1/documents", files=files(("a.md", b""), ("b.pdf", b"%PDF")))
    _, stored = await stored_job(app, response)
    assert [Path(file["path"]).stat().st_size for file in stored.request["files"]] == [0, 4]


async def test_a_version_is_shown_as_it_was_parsed(client):
    (hit,) = (await client.post("/v1/search", json={"query": "harbour", **HERE})).json()["hits"]
    assert hit["page"] is None and hit["section"] == ["History"]
    url = f"/v1/documents/{hit['doc_id']}/versions"
    shown = (await client.get(f"{url}/{hit['version_id']}", params=HERE)).json()
    assert shown["text"][hit["start"] : hit["end"]] == hit["text"]
    assert shown == {
        "doc_id": "port/harbour",
        "version_id": hit["version_id"],
        "title": "Harbour",
        "uri": "https://example.org/harbour",
        "metadata": {},
        "dated": False,
        "pages": [],
        "text": TEXT,
    }
    assert (await client.get(f"{url}/none", params=HERE)).status_code == 404
    assert (await client.get(f"/v1/documents/other/versions/{hit['version_id']}", params=HERE)).status_code == 404


async def test_without_a_broker_the_job_waits_in_the_catalog_and_says_so(tmp_path):
    async with gateway(tmp_path, answering(), MemoryBroker(down=True)) as app, client_of(app) as client:
        response = await client.post("/v1/documents", files=files(("a.md", b"# A")))
        job, stored = await stored_job(app, response)
    assert stored.state == jobs.QUEUED
    assert "broker" in job["note"]


BAD_UPLOADS = [
    (files(("a.exe", b"x")), {}, "'a.exe'"),
    (files(("..", b"x")), {}, "file name"),
    ([("other", ("a.md", b"x"))], {}, "other"),
    (files(("a.md", b"x")), {"valid_from": "soon"}, "valid_from"),
    (files(("a.md", b"x")), {"history": "perhaps"}, "history"),
    (files(("a.md", b"x")), {"tenant": "other"}, "tenant"),
    (files(("a.md", b"x")), {"collection": "a/b"}, "collection"),
]


@pytest.mark.parametrize(("sent", "data", "named"), BAD_UPLOADS)
async def test_a_mistake_in_an_upload_is_a_400_that_leaves_nothing_behind(app, client, sent, data, named):
    response = await client.post("/v1/documents", files=sent, data=data)
    assert response.status_code == 400
    assert named in response.json()["detail"]
    assert not context(app).settings.uploads_dir.exists()
    assert (await client.get("/v1/jobs")).json() == {"jobs": []}


BAD_DOCUMENTS = [
    ({"documents": []}, "documents"),
    ({"documents": [{"id": "a"}]}, "documents[0].text: is missing"),
    ({"documents": [{"id": "a", "text": ""}]}, "documents[0].text"),
    ({"documents": [{"id": "a", "text": "x", "valid_from": "soon"}]}, "documents[0].valid_from"),
    ({"documents": [{"id": "a", "text": "x", "tenant": "other"}]}, "documents[0].tenant"),
    ({"documents": [{"id": "a", "text": "x"}], "tenant": "other"}, "tenant"),
    ({"documents": [{"id": True, "text": "x"}]}, "documents[0].id"),
]


@pytest.mark.parametrize(("body", "named"), BAD_DOCUMENTS)
async def test_a_mistake_in_a_document_is_a_400_that_names_the_field(client, body, named):
    response = await client.post("/v1/documents", json=body)
    assert response.status_code == 400
    assert named in response.json()["detail"]


async def test_a_form_that_is_none_is_a_400(client):
    headers = {"content-type": "multipart/form-data"}
    assert (await client.post("/v1/documents", content=b"x", headers=headers)).status_code == 400
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert (await client.post("/v1/documents", content=b"--b\r\nx", headers=headers)).status_code == 400
    assert (await client.post("/v1/documents", content=b"x", headers={"content-type": "text/plain"})).status_code == 400


async def test_too_much_is_a_413_whether_it_is_declared_or_not(tmp_path):
    async def endless():
        for _ in range(3_000):
            yield b"x" * 1_000

    limits = {"max_upload_bytes": 10_000, "max_body_bytes": 10_000}
    async with gateway(tmp_path, answering(), **limits) as app, client_of(app) as client:
        sent = await client.post("/v1/documents", files=files(("a.md", b"x" * 10_001)))
        assert (sent.status_code, sent.json()["type"]) == (413, "urn:almanac:error:too-large")
        assert (await client.post("/v1/answers", json={**ASK, "question": "x" * 20_000})).status_code == 413
        for path, kind in (("/v1/answers", "application/json"), ("/v1/documents", "multipart/form-data; boundary=b")):
            streamed = await client.post(path, content=endless(), headers={"content-type": kind})
            assert streamed.status_code in (400, 413)
        assert not app.state.context.settings.uploads_dir.exists()


async def test_jobs_are_shown_as_they_stand(app, client):
    response = await client.post("/v1/documents", json={"documents": [{"id": "a", "text": document().text}]})
    job = response.json()["job"]
    failure = {"source": "a", "line": 1, "id": "a", "reason": "bad"}
    with context(app).catalog.write() as tx:
        jobs.acquire(tx, job["id"])
        jobs.set_total(tx, job["id"], 2)
        jobs.progress(tx, job["id"], 1, {"versions": 1, "facts": 1}, [failure])
    shown = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert (shown["state"], shown["total"], shown["done"]) == ("running", 2, 1)
    assert shown["counts"] == {
        **dict.fromkeys(("documents", "passages", "encoded", "skipped", "failed"), 0),
        **{"versions": 1, "facts": 1},
    }
    assert shown["failures"] == [failure]
    assert [one["id"] for one in (await client.get("/v1/jobs")).json()["jobs"]] == [job["id"]]
    assert (await client.get("/v1/jobs/none")).status_code == 404


async def test_a_jobs_progress_streams_up_to_its_end(app, client):
    job = (await client.post("/v1/documents", json={"documents": [{"id": "a", "text": "x"}]})).json()["job"]
    catalog = context(app).catalog

    def step(work):
        with catalog.write() as tx:
            work(tx)

    async def work():
        await asyncio.sleep(0.3)
        step(lambda tx: jobs.acquire(tx, job["id"]))
        await asyncio.sleep(0.4)
        step(lambda tx: jobs.renew(tx, job["id"]))
        await asyncio.sleep(0.4)
        step(lambda tx: jobs.finish(tx, job["id"], jobs.DONE))

    working = asyncio.create_task(work())
    response = await client.get(f"/v1/jobs/{job['id']}", headers={"accept": "text/event-stream"})
    await working
    seen = [(name, data["state"]) for name, data in events_in(response.text)]
    assert seen == [("progress", "queued"), ("progress", "running"), ("progress", "done"), ("done", "done")]
