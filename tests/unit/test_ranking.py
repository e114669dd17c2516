"""The rank step of the graph: what it reorders, when it is passed over, and what becomes of it without its node."""

import json

import pytest

from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.records import DocumentIn, Generation, PassageIn
from services.catalog.state import ensure_generation
from services.common.errors import MomentViolation, Unavailable
from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span, now, parse_instant
from services.common.nodes.features import DOCUMENTS, FeatureRow
from services.common.nodes.retriever import Found, Hit, Target
from services.common.nodes.usage import USAGE
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.ranking import DEPTH, features_at, weighed
from services.orchestrator.graph.run import PASSAGES, answer
from services.orchestrator.graph.search import rank_passages, search
from tests.fakes.encoder import FakeEncoder
from tests.fakes.generator import FakeGenerator

GENERATION = Generation("g1", "all-MiniLM-L6-v2", 64)
NAMES = [f"doc-{n:02}" for n in range(20)]
EVERYWHERE = Extent(Span(OPEN_START, OPEN_END), Span(0, OPEN_END))
AS_OF = parse_instant("2020-01-01")


def document(name):
    text = f"The keeper of {name} is called Edda."
    return DocumentIn(name, name, text, passages=(PassageIn(0, (), 0, len(text), text),))


class Ranked:
    """A retriever that finds every document, in the order of their names."""

    def __init__(self):
        self.limits = []

    async def search(self, query):
        if query.target is Target.QUESTIONS:
            return Found([])
        self.limits.append(query.limit)
        rows = [document(name) for name in NAMES[: query.limit]]
        ids = [row.passage_id("t", "c", row.passages[0]) for row in rows]
        return Found(
            [
                Hit(one, row.doc_id, 1.0 - n / 100, 0.5, None, EVERYWHERE)
                for n, (one, row) in enumerate(zip(ids, rows, strict=True))
            ]
        )


class Features:
    """Features of documents as given; `failing` until it is no more."""

    def __init__(self, usage=None, documents=None, failing=False):
        self.rows = {USAGE: usage or {}, DOCUMENTS: documents or {}}
        self.failing, self.asked = failing, 0

    async def read(self, scope, view, entities, online=False):
        self.asked += 1
        if self.failing:
            raise Unavailable("it is down")
        found = self.rows[view]
        return [FeatureRow(one, one in found, 0, 0, found.get(one, {})) for one in entities]


@pytest.fixture
def catalog(tmp_path):
    opened = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    with opened.write() as tx:
        ensure_generation(tx, GENERATION)
        recorder = Recorder(tx, "t", "c")
        for name in NAMES:
            recorder.document(document(name))
        recorder.close()
    yield opened
    opened.close()


def nodes_of(catalog, features):
    return Nodes(catalog, FakeEncoder(), Ranked(), features, FakeGenerator())


def question(**fields):
    return Question("a", "t", "c", "Who is the keeper?", Moment(AS_OF, now()), GENERATION, generate=False, **fields)


async def asked(nodes, **fields):
    async def emit(event):
        pass

    return await answer(nodes, question(**fields), emit)


async def test_a_document_users_found_helpful_comes_before_better_matches(catalog):
    nodes = nodes_of(catalog, Features(usage={NAMES[15]: {"helpful_ever": 8}}))
    found = await asked(nodes, weights={"helpful": 1.0})
    assert found.retrieved == (NAMES[15], *NAMES[: PASSAGES - 1]) and found.degraded == ()
    assert nodes.retriever.limits == [DEPTH] and "rank" in found.timings_ms
    json.dumps(found.to_json())


async def test_without_weights_nothing_is_read_and_the_step_is_passed_over(catalog):
    nodes = nodes_of(catalog, Features(usage={NAMES[15]: {"helpful_ever": 8}}))
    found = await asked(nodes)
    assert found.retrieved == tuple(NAMES[:PASSAGES]) and nodes.features.asked == 0
    assert nodes.retriever.limits == [PASSAGES] and "rank" not in found.timings_ms


async def test_without_the_features_node_the_order_stays_and_the_answer_says_so(catalog):
    found = await asked(nodes_of(catalog, Features(failing=True)), weights={"helpful": 1.0})
    assert found.retrieved == tuple(NAMES[:PASSAGES]) and found.degraded == ("features",)


async def test_a_search_ranks_as_an_answer_does(catalog):
    features = Features(usage={NAMES[15]: {"helpful_ever": 8}})
    scope = question().scope
    found = await search(nodes_of(catalog, features), GENERATION, scope, "keeper", 3, {}, {"helpful": 1.0})
    assert [hit.hit.doc_id for hit in found.hits] == [NAMES[15], *NAMES[:2]]
    assert found.hits[0].hit.score == pytest.approx(0.85 + 0.8)


async def test_ranking_keeps_every_passage_and_the_order_of_equals(catalog):
    nodes, scope = nodes_of(catalog, Features(usage={NAMES[3]: {"unhelpful_ever": 1}})), question().scope
    hits = (await search(nodes, GENERATION, scope, "keeper", 20, {})).hits
    level = await rank_passages(nodes, scope, hits, {"helpful": 0.0})
    assert [hit.located for hit in level] == [hit.located for hit in hits]
    lower = await rank_passages(nodes, scope, hits, {"helpful": 3.0})
    assert {hit.located.doc_id for hit in lower} == set(NAMES) and lower[-1].hit.doc_id == NAMES[3]


async def test_features_are_those_of_the_moment(catalog):
    year = 365 * 86_400_000_000
    described = {
        "new": {"dated": True, "valid_from_us": AS_OF, "authority": 1.0},
        "old": {"dated": True, "valid_from_us": AS_OF - 2 * year},
        "undated": {"dated": False, "valid_from_us": OPEN_START},
    }
    used = {"new": {"cited_30d": 10, "retrieved_30d": 30}, "old": {"helpful_ever": 1, "unhelpful_ever": 3}}
    features = Features(usage=used, documents=described)
    found = await features_at(nodes_of(catalog, features), question().scope, [*described, "new"], {"cited": 2.0})
    values = {name: [feature.value for feature in row] for name, row in found.items()}
    assert values == {
        "new": [1, 1, 0.25, 0],
        "old": [0.25, 0, 0, pytest.approx(-1 / 3)],
        "undated": [0, 0, 0, 0],
    }
    assert weighed(found["new"]) == 0.5


@pytest.mark.parametrize(("event", "created"), [(AS_OF + 1, 0), (0, 2**60)])
async def test_a_value_from_beyond_the_moment_is_a_violation(catalog, event, created):
    class Leaking(Features):
        async def read(self, scope, view, entities, online=False):
            return [FeatureRow(one, True, event, created, {}) for one in entities]

    with pytest.raises(MomentViolation):
        await features_at(nodes_of(catalog, Leaking()), question().scope, ["doc"], {})
