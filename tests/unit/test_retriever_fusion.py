"""Our fusion against the engine's own."""

import numpy as np
import pytest
import qdrant_edge as qe

from services.common.moment import Extent, Span
from services.common.nodes.funnel import Fusion
from services.retriever.backends.base import Candidate, Candidates
from services.retriever.fusion import fuse


def stage(scores):
    extent = Extent(Span(), Span())
    best = sorted(scores.items(), key=lambda pair: -pair[1])
    return [Candidate(item, f"doc-{item}", "acme", "notes", extent, score) for item, score in best]


def test_scores_equal_the_engines_own_fusion(tmp_path):
    rng = np.random.default_rng(3)
    vectors = {"one": qe.EdgeVectorParams(4, qe.Distance.Dot), "two": qe.EdgeVectorParams(4, qe.Distance.Dot)}
    shard = qe.EdgeShard.create(str(tmp_path), qe.EdgeConfig(vectors=vectors))
    rows = [{name: rng.normal(size=4).tolist() for name in vectors} for _ in range(40)]
    shard.update(qe.UpdateOperation.upsert_points([qe.Point(n, row) for n, row in enumerate(rows)]))
    asked = [qe.Query.Nearest(rng.normal(size=4).tolist(), using=name) for name in vectors]
    lists = [shard.query(qe.QueryRequest(limit=15, query=query)) for query in asked]
    prefetches = [qe.Prefetch(limit=15, query=query) for query in asked]
    engine = shard.query(qe.QueryRequest(limit=40, query=qe.Fusion.Dbsf(), prefetches=prefetches))
    shard.close()
    ours = fuse(Candidates(*(stage({str(hit.id): hit.score for hit in found}) for found in lists)), 40).hits
    assert 15 < len(ours) < 30
    assert [(int(hit.item_id), hit.score) for hit in ours] == [
        (hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in engine
    ]


def test_a_hit_says_which_stages_found_it():
    hits = {
        hit.item_id: hit for hit in fuse(Candidates(stage({"a": 0.9, "b": 0.1}), stage({"b": 7.0, "c": 3.0})), 9).hits
    }
    assert [(hits[item].dense, hits[item].lexical) for item in "abc"] == [(0.9, None), (0.1, 7.0), (None, 3.0)]
    assert [(hits[item].dense_rank, hits[item].lexical_rank) for item in "abc"] == [(1, None), (2, 1), (None, 2)]


def test_reciprocal_ranks_add_up():
    found = Candidates(stage({"a": 0.9, "b": 0.1}), stage({"b": 7.0, "c": 3.0}))
    scores = {hit.item_id: hit.score for hit in fuse(found, 9, Fusion.RRF).hits}
    assert scores == pytest.approx({"a": 1 / 2, "b": 1 / 3 + 1 / 2, "c": 1 / 3})


def test_one_score_or_equal_scores_lie_in_the_middle():
    assert [hit.score for hit in fuse(Candidates(stage({"a": 0.3}), []), 9).hits] == [0.5]
    noisy = {"a": 0.30000001, "b": 0.3, "c": 0.29999999}
    assert [hit.score for hit in fuse(Candidates(stage(noisy), []), 9).hits] == [0.5, 0.5, 0.5]


def test_ties_are_ordered_by_item_id_and_the_limit_holds():
    same = dict.fromkeys("dbca", 1.0)
    assert [hit.item_id for hit in fuse(Candidates(stage(same), stage(same)), 3).hits] == ["a", "b", "c"]


def test_nothing_found_gives_no_hits():
    assert fuse(Candidates([], []), 9).hits == []
