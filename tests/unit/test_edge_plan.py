"""How the edge backend searches, by how many points pass."""

import dataclasses

import numpy as np
import pytest

from services.common.errors import InvalidRequest
from services.common.nodes.funnel import Funnel, Quantization, Rotation
from services.retriever.backends.base import Definition
from services.retriever.backends.edge import EdgeEngine
from services.retriever.backends.edge.plan import choose
from services.retriever.backends.edge.schema import coarse
from tests.fakes.retriever import index_directory, point, query

BINARY = Funnel(quantization=Quantization.BINARY)
WIDE = 32


@pytest.fixture
def home():
    with index_directory() as directory:
        yield directory


@pytest.mark.parametrize(
    ("funnel", "exact", "passing", "method"),
    [
        (BINARY, False, 2_000, "exact"),
        (BINARY, False, 2_001, "codes"),
        (BINARY, False, 100_000, "graph"),
        (BINARY, True, 100_000, "exact"),
        (Funnel(), False, 2_001, "graph"),
        (Funnel(dimensions=16), False, 100_000, "graph"),
    ],
)
def test_the_method_follows_from_what_passes(funnel, exact, passing, method):
    assert choose(funnel, exact, passing, 200_000, 2_000).method == method


def test_coarse_vectors_are_cut_or_rotated():
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    cut = Definition(Funnel(dimensions=2))
    assert coarse(rows, cut).tolist() == [[0, 1], [4, 5]]
    basis = np.array([[0, 0, 0, 1], [1, 0, 0, 0]], np.float32)
    rotated = Definition(Funnel(dimensions=2, rotation=Rotation.PCA), basis)
    assert coarse(rows, rotated).tolist() == [[3, 0], [7, 4]]


def filled(home, funnel, points, basis=None, **options):
    index = EdgeEngine(home, **options).create("g1", Definition(funnel, basis))
    rows = np.random.default_rng(0).normal(size=(len(points), WIDE)).astype(np.float32)
    index.upsert("acme", "notes", points, rows)
    index.commit("acme", "notes", 10)
    return index, rows


def test_a_funnel_of_more_dimensions_than_there_are_is_refused(home):
    with pytest.raises(InvalidRequest, match="32"):
        filled(home, Funnel(dimensions=64), [point("p1")])


def test_the_plan_tells_method_and_estimate(home):
    points = [point(f"p{number}", text="word", recorded=(number + 1, 1_000)) for number in range(100)]
    index, rows = filled(home, BINARY, points, exact_below=20)
    for known_at, method in ((5, "exact"), (100, "codes")):
        (found,) = index.search([(query("word", rows[0], known_at=known_at), 10)])
        dense, lexical = found.plan
        assert (dense.name, dense.method, dense.points) == ("dense", method, 100)
        assert abs(dense.passing - known_at) <= 10
        assert (lexical.name, lexical.method) == ("lexical", "postings")
    index.close()


def test_an_exact_query_searches_full_vectors_whatever_the_funnel(home):
    basis = np.zeros((2, WIDE), np.float32)
    basis[0, 0] = basis[1, 1] = 1
    funnel = Funnel(dimensions=2, rotation=Rotation.PCA, rescore=False, accept_loss=True)
    index, rows = filled(home, funnel, [point(f"p{number}") for number in range(200)], basis, exact_below=0)
    asked = query(vector=rows[7] + 0.1)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    best = [f"p{place}" for place in np.argsort(-unit @ (rows[7] + 0.1))[:10]]
    lossy, exact = index.search([(asked, 10), (dataclasses.replace(asked, exact=True), 10)])
    assert [one.item_id for one in exact.dense] == best
    assert exact.plan[0].method == "exact"
    assert [one.item_id for one in lossy.dense] != best
    index.close()


def test_items_with_many_points_do_not_crowd_out_others(home):
    points = [point(f"p{number}", item_id=f"item{number // 20}") for number in range(200)]
    index, rows = filled(home, BINARY, points, exact_below=0)
    (found,) = index.search([(query(vector=rows[0]), 10)])
    assert len({one.item_id for one in found.dense}) == 10
    index.close()
