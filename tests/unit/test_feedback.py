"""Feedback on answers, and what features weigh in a search: at the gateway's door, over a real catalog."""

import pytest
from sqlalchemy import select, update

from services.catalog import answers, events, jobs
from services.catalog.tables import collections, usage
from services.catalog.tables import events as log
from services.catalog.usage import HOUR_US
from services.common.errors import MomentViolation, Unavailable
from services.common.moment import now
from services.common.nodes.features import DOCUMENTS, FeatureRow
from services.gateway.routes.search import SearchAnswer
from services.orchestrator.graph.nodes import Nodes
from tests.fakes.gateway import COLLECTION, answering, client_of, gateway

HARBOUR = "port/harbour"
SEARCH = {"query": "harbour", "collection": COLLECTION}


@pytest.fixture
async def app(tmp_path):
    async with gateway(tmp_path, answering()) as started:
        yield started


@pytest.fixture
async def client(app):
    async with client_of(app) as opened:
        yield opened


def answered(app, tenant="local", state=answers.DONE):
    catalog = app.state.context.catalog
    with catalog.write() as tx:
        made = answers.create(tx, tenant, COLLECTION, {})
        cited = [{"n": n, "doc_id": name} for n, name in enumerate([HARBOUR, HARBOUR, "", "port/unused"], start=1)]
        found = {"answer": "In 1901 [1]. In 1950 [2, 3].", "citations": cited, "retrieved": [HARBOUR]}
        events.record_answer(tx, made, 1, state, found, now())
    return made


def logged(app, kind=events.FEEDBACK):
    with app.state.context.catalog.read() as tx:
        return list(tx.execute(select(log).where(log.c.kind == kind).order_by(log.c.recorded_at)))


def counted(app):
    with app.state.context.catalog.write() as tx:
        for where in events.due(tx):
            events.record(tx, *where)
        rows = tx.execute(select(usage.c.measure, usage.c.times).where(usage.c.doc_id == HARBOUR))
        return sorted((measure, times) for measure, times in rows)


async def test_the_last_word_counts_and_saying_it_again_changes_nothing(app, client):
    door = f"/v1/answers/{answered(app)}/feedback"
    said = [
        (await client.post(door, json={"helpful": helpful, "note": note})).json()
        for helpful, note in ((True, ""), (True, ""), (True, "clear"), (False, ""), (False, ""))
    ]
    assert [one["changed"] for one in said] == [True, False, True, True, False]
    assert [row.payload["helpful"] for row in logged(app)] == [True, True, False]
    assert counted(app) == [("helpful", -1), ("helpful", -1), ("helpful", 1), ("helpful", 1), ("unhelpful", 1)]
    assert counted(app) == counted(app)


async def test_feedback_is_credited_once_to_each_document_that_the_text_refers_to(app, client):
    await client.post(f"/v1/answers/{answered(app)}/feedback", json={"helpful": True})
    [row] = logged(app)
    assert row.payload["cited"] == [HARBOUR] and counted(app) == [("helpful", 1)]


async def test_no_text_of_a_question_is_in_the_log(app, client):
    await client.post("/v1/answers", json={"question": "When did the zanzibarquux open?", "collection": COLLECTION})
    answered(app)
    with app.state.context.catalog.read() as tx:
        assert "zanzibarquux" not in repr(tx.execute(select(log)).all())


async def test_feedback_on_no_answer_or_another_tenants_is_not_found(app, client):
    for answer in ("nothing", answered(app, tenant="rival"), answered(app, state=answers.FAILED)):
        response = await client.post(f"/v1/answers/{answer}/feedback", json={"helpful": True})
        assert response.status_code == 404 and "answer" in response.json()["detail"]
    assert logged(app) == []


@pytest.mark.parametrize("body", [{}, {"helpful": "yes"}, {"helpful": True, "note": "x" * 1_001}, {"tenant": "rival"}])
async def test_feedback_that_says_too_little_or_too_much_is_refused(app, client, body):
    assert (await client.post(f"/v1/answers/{answered(app)}/feedback", json=body)).status_code in (400, 422)


async def test_a_user_who_changes_their_mind_without_end_is_stopped(app, client):
    door = f"/v1/answers/{answered(app)}/feedback"
    for n in range(events.MOST_WORDS):
        assert (await client.post(door, json={"helpful": n % 2 == 0})).status_code == 200
    assert (await client.post(door, json={"helpful": True})).status_code == 409


async def test_searches_are_logged_once_soon_after_without_their_words(app, client):
    for _ in range(3):
        await client.post("/v1/search", json=SEARCH)
    assert logged(app, events.SEARCH) == []
    await app.state.context.searches.close()
    await app.state.context.searches.close()
    rows = logged(app, events.SEARCH)
    assert [row.payload["retrieved"] for row in rows] == [[HARBOUR]] * 3
    assert all(set(row.payload) == {"at", "retrieved"} and row.recorded_at > events.WAITING for row in rows)
    assert counted(app) == []


async def test_what_was_retrieved_counts_from_the_end_of_its_hour_on(app):
    hour = HOUR_US * (now() // HOUR_US)
    early, late = (
        events.Search(name, "local", COLLECTION, hour - before, [HARBOUR]) for name, before in (("a", 1), ("b", 0))
    )
    with app.state.context.catalog.write() as tx:
        for _ in range(2):
            events.searched(tx, [early, late])
    assert counted(app) == [("retrieved", 1)]
    [row] = [row for row in logged(app, events.SEARCH) if row.recorded_at > events.WAITING]
    assert row.payload["at"] == hour and row.recorded_at == events.WAITING + hour + HOUR_US


async def test_events_wait_while_a_past_is_still_being_imported(app, client):
    context = app.state.context
    with context.catalog.write() as tx:
        job = jobs.create(tx, "local", COLLECTION, "documents", {"files": []})
        tx.execute(update(collections).values(history_job=job.job_id))
    await client.post(f"/v1/answers/{answered(app)}/feedback", json={"helpful": True})
    assert counted(app) == []
    with context.catalog.write() as tx:
        jobs.acquire(tx, job.job_id)
        jobs.finish(tx, job.job_id, jobs.DONE)
    assert counted(app) == [("helpful", 1)]


class Known:
    """A features node that knows one document."""

    def __init__(self, helpful=0, created=0, failing=False):
        self.helpful, self.created, self.failing, self.asked = helpful, created, failing, 0

    async def read(self, scope, view, entities):
        self.asked += 1
        if self.failing:
            raise Unavailable("down")
        values = {"authority": 0.5, "dated": False} if view == DOCUMENTS else {"helpful_ever": self.helpful}
        return [FeatureRow(entity, True, 0, self.created, values) for entity in entities]


async def search(tmp_path, features, body, **settings):
    async with gateway(tmp_path, answering(), **settings) as app:
        context = app.state.context
        nodes = context.nodes
        replaced = Nodes(nodes.catalog, nodes.encoder, nodes.retriever, features, nodes.generator)
        object.__setattr__(context, "nodes", replaced)
        async with client_of(app) as client:
            return await client.post("/v1/search", json={**SEARCH, **body})


async def test_features_without_weight_are_not_read_unless_an_explanation_is_asked_for(tmp_path):
    features = Known(helpful=2)
    plain = (await search(tmp_path, features, {})).json()
    assert features.asked == 0 and "rank" not in plain["timings_ms"]
    told = (await search(tmp_path, features, {"explain": True})).json()
    SearchAnswer.model_validate(told)
    [hit] = told["hits"]
    assert {one["name"]: (one["value"], one["weight"]) for one in hit["features"]} == {
        "recency": (0, 0),
        "authority": (0.5, 0),
        "cited": (0, 0),
        "helpful": (0.5, 0),
    }
    assert hit["score"] == plain["hits"][0]["score"]


async def test_the_score_is_the_fused_one_and_what_features_weigh(tmp_path):
    weights = {"rank_helpful": 0.2, "rank_authority": -1.0}
    found = (await search(tmp_path, Known(helpful=2), {}, **weights)).json()
    assert found["hits"][0]["score"] == pytest.approx(0.5 + 0.2 * 0.5 - 0.5)
    assert "features" not in found["hits"][0] and found["timings_ms"]["rank"] > 0


async def test_without_the_features_node_the_order_stays_and_the_search_says_so(tmp_path):
    found = (await search(tmp_path, Known(failing=True), {"explain": True}, rank_helpful=1.0)).json()
    assert found["degraded"] == ["features"] and found["hits"][0]["score"] == 0.5
    assert found["hits"][0]["features"] == []


async def test_a_feature_recorded_after_the_moment_is_withheld(tmp_path):
    response = await search(tmp_path, Known(created=2**60), {"explain": True})
    assert response.json()["type"].endswith(MomentViolation.type)
