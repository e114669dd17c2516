"""The qdrant backend beside the contract: what it asks of a server, and what several processes see of each other."""

from types import SimpleNamespace

import numpy as np
import pytest
from qdrant_client import models

from services.common.errors import Unavailable
from services.common.moment import OPEN_END, OPEN_START
from services.common.nodes.funnel import Funnel, Quantization, Rotation
from services.retriever.backends import open_engine
from services.retriever.backends.base import Definition
from services.retriever.backends.qdrant import schema
from services.retriever.backends.qdrant.search import Searcher
from services.retriever.backends.qdrant.server import Server
from tests.fakes.retriever import (
    QDRANT_URL,
    apply,
    changes,
    engine_settings,
    found,
    index_directory,
    point,
    query,
    retriever_over,
    vector,
)

FUNNEL = Funnel(dimensions=4, rotation=Rotation.PCA, quantization=Quantization.BINARY, oversampling=3)


class Recorder:
    """A client that writes down its calls; answers counts and queries."""

    def __init__(self, passing=0):
        self.calls, self._passing = [], passing

    def __getattr__(self, name):
        def called(*args, **named):
            self.calls.append((name, args, named))
            if name == "count":
                return SimpleNamespace(count=self._passing)
            return [SimpleNamespace(points=[])] * len(args[1]) if name == "query_batch_points" else None

        return called

    def named(self, name):
        return [(args, named) for called, args, named in self.calls if called == name]


@pytest.fixture
def home():
    with index_directory() as directory:
        yield directory


def remote(home, client, **settings):
    """A Server as it is with a real one behind it, over another client."""
    server = Server(engine_settings("qdrant", home, retriever_qdrant_url=":memory:", **settings))
    server.local, server.client = False, client
    return server


def searched(home, funnel, passing, **asked):
    client = Recorder(passing)
    basis = np.eye(8, dtype=np.float32)[:4] if funnel.rotation is Rotation.PCA else None
    searcher = Searcher(remote(home, client), Definition(funnel, basis), SimpleNamespace(embed_query=None), 1_000)
    searcher.search("points", 100_000, [(query(vector=vector(1), **asked), 50)])
    ((_, (request,)),) = [args for args, _ in client.named("query_batch_points")]
    return request


def test_a_collection_has_coarse_codes_in_memory_and_graphs_of_tenants_alone(home):
    client = Recorder()
    schema.create(remote(home, client, retriever_qdrant_replicas=3), "points", FUNNEL, 8)
    (((_, vectors, sparse), named),) = client.named("create_collection")
    assert vectors["coarse"].size == 4 and vectors["coarse"].quantization_config.binary.always_ram
    assert (vectors["coarse"].hnsw_config.m, vectors["coarse"].hnsw_config.payload_m) == (0, 16)
    assert vectors["dense"].on_disk and vectors["dense"].hnsw_config.payload_m == 0
    assert sparse["lexical"].modifier is models.Modifier.IDF
    assert (named["replication_factor"], named["write_consistency_factor"]) == (3, 3)
    indexed = {args[1]: args[2] for args, _ in client.named("create_payload_index")}
    assert indexed["tenant"].is_tenant
    for key in ("valid_from", "valid_to", "recorded_from", "recorded_to"):
        assert indexed[key].range and not indexed[key].lookup and indexed[key].enable_hnsw is False


def test_where_many_pass_codes_choose_within_the_moment_and_full_vectors_rescore(home):
    request = searched(home, FUNNEL, passing=50_000)
    assert (request.using, request.prefetch.using, request.prefetch.limit) == ("dense", "coarse", 150)
    assert request.prefetch.filter.must and not request.prefetch.params.quantization.rescore
    plain = searched(home, Funnel(quantization=Quantization.INT8, oversampling=3), passing=50_000)
    assert plain.filter.must and plain.params.quantization.rescore and plain.params.quantization.oversampling == 3


def test_where_few_pass_full_vectors_are_compared_and_no_codes(home):
    request = searched(home, FUNNEL, passing=1_000)
    assert request.using == "dense" and request.prefetch is None and request.filter.must
    assert request.params.exact and request.params.quantization.ignore


def test_term_statistics_are_asked_for_over_the_visible_points(home):
    client = Recorder(5)
    sparse = SimpleNamespace(indices=[1], values=[1.0])
    searcher = Searcher(remote(home, client), Definition(), SimpleNamespace(embed_query=lambda _: sparse), 1_000)
    searcher.search("points", 10, [(query("owl"), 50)])
    ((_, (request,)),) = [args for args, _ in client.named("query_batch_points")]
    assert request.params.idf.corpus == request.filter and request.filter.must


def test_a_server_that_does_not_answer_is_unavailable(home):
    settings = engine_settings("qdrant", home, retriever_qdrant_url="http://127.0.0.1:9", retriever_qdrant_api_key="")
    with pytest.raises(Unavailable, match="does not answer"):
        open_engine(settings)


def test_a_server_too_old_to_scope_term_statistics_is_refused(home):
    client = SimpleNamespace(info=lambda: SimpleNamespace(version="1.18.2"))
    with pytest.raises(Unavailable, match=r"1\.19 or later"):
        remote(home, client)._check_version()


def test_processes_see_each_others_generations_watermarks_and_points(home):
    one, other = (open_engine(engine_settings("qdrant", home)) for _ in range(2))
    writer = one.create("g1", Definition(Funnel(quantization=Quantization.INT8)))
    reader = other.open("g1")
    assert reader.definition == writer.definition
    batch = changes([point("p")])
    writer.upsert("acme", "notes", batch.upserts, batch.vectors)
    writer.commit("acme", "notes", 7)
    assert reader.watermark("acme", "notes") == 7
    (found,) = reader.search([(query(vector=vector(1)), 10)])
    assert [candidate.item_id for candidate in found.dense] == ["p"]


async def test_a_retriever_searches_what_another_has_applied(home):
    writer, reader = (retriever_over("qdrant", home) for _ in range(2))
    for end in (10, 20):
        one = point(f"p{end}", recorded=(end, OPEN_END))
        await apply(writer, changes([one]), start=OPEN_START if end == 10 else 10, end=end)
        assert f"p{end}" in await found(reader, known_at=end)
    await writer.close()
    await reader.close()


@pytest.mark.skipif(bool(QDRANT_URL), reason="reads the client's own collections")
def test_what_a_killed_rewrite_left_is_deleted_by_the_next(home):
    engine = open_engine(engine_settings("qdrant", home))
    index = engine.create("g1", Definition())
    batch = changes([point(f"p{n}") for n in range(300)])
    index.upsert("acme", "notes", batch.upserts, batch.vectors)
    killed = index.rewrite()
    next(killed)
    fresh = open_engine(engine_settings("qdrant", home)).open("g1")
    assert fresh.count() == 300
    assert list(fresh.rewrite()) and fresh.count() == 300
    collections = engine._server.client.get_collections().collections
    assert len([one for one in collections if one.name.startswith(f"{engine._server.prefix}.g1.")]) == 1
    killed.close()


def test_a_replacement_killed_half_way_loses_no_points_when_the_other_name_is_dropped(home):
    engine = open_engine(engine_settings("qdrant", home))
    fresh = engine.create("g1.rebuild", Definition())
    batch = changes([point("new")])
    fresh.upsert("acme", "notes", batch.upserts, batch.vectors)
    fresh.commit("acme", "notes", 7)
    engine._states.forget = lambda generation: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.replace("g1", "g1.rebuild")
    after = open_engine(engine_settings("qdrant", home))
    after.drop("g1.rebuild")
    assert after.open("g1.rebuild") is None
    assert (after.open("g1").count(), after.open("g1").watermark("acme", "notes")) == (1, 7)
