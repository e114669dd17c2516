"""The edge backend's coarse index: how it is searched, by what share of its rows is allowed."""

import numpy as np
import pytest

from services.common.nodes.funnel import Funnel, Quantization
from services.retriever.backends.base import Definition
from services.retriever.backends.edge import graph
from services.retriever.backends.edge.graph import EdgeKind, Graph, write
from services.retriever.backends.faiss.coarse import Codes
from services.retriever.backends.rows.bits import Bits
from tests.fakes.faiss import clustered

ROWS = 2_000
BINARY = Funnel(quantization=Quantization.BINARY)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    home, held = tmp_path_factory.mktemp("graphs"), clustered(ROWS)
    opened = {}
    for funnel in (BINARY, Funnel(), Funnel(dimensions=8)):
        write(home / f"g{len(opened)}", None, Definition(funnel), held, "")
        opened[funnel] = Graph(home / f"g{len(opened)}")
    yield opened
    for one in opened.values():
        one.close()


@pytest.mark.parametrize(
    ("funnel", "share", "method"),
    [
        (BINARY, 1.0, "graph"),
        (BINARY, 0.25, "lists"),
        (BINARY, 0.01, "lists"),
        (Funnel(), 0.25, "graph"),
        (Funnel(), 0.01, "exact"),
        (Funnel(dimensions=8), 1.0, "graph"),
    ],
)
def test_the_method_follows_from_the_share_that_is_allowed(graphs, funnel, share, method):
    assert graphs[funnel].method(int(share * ROWS)) == method


@pytest.mark.parametrize("share", [1.0, 0.8, 0.25, 0.01])
def test_only_allowed_rows_are_found_and_as_many_as_are_wanted(graphs, share):
    allowed = np.random.default_rng(2).random(ROWS) < share
    wanted = min(100, int(allowed.sum()))
    ids, scores = graphs[BINARY].search(clustered(5, seed=3), Bits.of(allowed), wanted)
    assert ids.shape == scores.shape == (5, wanted) and allowed[ids].all()
    assert all(len(set(row)) == wanted for row in ids.tolist())
    assert (np.diff(scores, axis=1) <= 1e-6).all()


def test_what_the_graph_misses_because_the_near_are_forbidden_is_found_by_lists(graphs):
    held, asked = clustered(ROWS), clustered(1, seed=3)
    nearest = np.argsort(-(held @ asked[0]))
    allowed = np.ones(ROWS, bool)
    allowed[nearest[:500]] = False
    assert graphs[BINARY].method(1_500) == "graph"
    ids, _ = graphs[BINARY].search(asked, Bits.of(allowed), 200)
    assert allowed[ids].all() and len(set(ids[0].tolist())) == 200


def test_without_lists_what_is_not_found_is_told(graphs):
    held, asked = clustered(ROWS), clustered(1, seed=3)
    allowed = np.ones(ROWS, bool)
    allowed[np.argsort(-(held @ asked[0]))[:500]] = False
    ids, _ = graphs[Funnel()].search(asked, Bits.of(allowed), 200)
    assert (ids < 0).any() and allowed[ids[ids >= 0]].all()


@pytest.mark.parametrize(("funnel", "made"), [(BINARY, Codes), (Funnel(), Graph)])
def test_of_more_rows_than_a_graph_of_one_bit_codes_is_for_there_are_lists_alone(funnel, made, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "_GRAPH_ROWS", ROWS - 1)
    write(tmp_path / "large", None, Definition(funnel), clustered(ROWS), "")
    opened = EdgeKind().read(tmp_path / "large")
    assert isinstance(opened, made) and opened.rows == ROWS
    ids, _ = opened.search(clustered(5, seed=3), Bits.of(np.ones(ROWS, bool)), 10)
    assert ids.shape == (5, 10) and (ids >= 0).all()
    opened.close()
