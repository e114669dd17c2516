"""A generation of the edge backend without dense vectors."""

import numpy as np
import pytest

from services.retriever.backends.base import Definition
from services.retriever.backends.edge import EdgeEngine
from tests.fakes.retriever import index_directory, point, query, vector


@pytest.fixture
def home():
    with index_directory() as directory:
        yield directory


def opened(directory):
    return EdgeEngine(directory, dense=False).create("g", Definition())


def test_bm25_alone_finds_and_vectors_of_any_width_are_ignored(home):
    index = opened(home)
    index.upsert("t", "c", [point("p1", text="the quick fox")], np.zeros((1, 3), np.float32))
    index.upsert("t", "c", [point("p2", text="a slow dog")], np.zeros((1, 5), np.float32))
    index.commit("t", "c", 100)
    (found,) = index.search([(query("fox", vector(1), tenant="t", collection="c"), 10)])
    assert [one.item_id for one in found.lexical] == ["p1"]
    assert not found.dense
    index.close()


def test_it_opens_again(home):
    index = opened(home)
    index.upsert("t", "c", [point("p1", text="the quick fox")], np.zeros((1, 3), np.float32))
    assert list(index.rewrite()) == []
    index.commit("t", "c", 100)
    index.close()
    again = EdgeEngine(home, dense=False).open("g")
    assert again.count() == 1 and again.watermark("t", "c") == 100
    again.close()
