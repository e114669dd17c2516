"""The FAISS backend's dense stage against exact search."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.common.errors import InvalidRequest
from services.common.nodes.funnel import Funnel, Quantization, Rotation
from services.retriever.backends.faiss.coarse import check_kind
from tests.fakes.faiss import WIDTH, built, clustered, created, nearest, truth, write
from tests.fakes.retriever import index_directory, point, query

COUNT = 3_000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home():
    with index_directory() as directory:
        yield directory


def method(index, **asked):
    (found,) = index.search([(query(vector=clustered(1, 9)[0], **asked), 10)])
    return found.plan[0].method, found.plan[0].passing, found.plan[0].points


@pytest.mark.parametrize(
    ("kind", "quantization"),
    [
        ("ivf", "none"),
        ("ivf", "int8"),
        ("ivf", "binary"),
        ("flat", "int8"),
        ("flat", "binary"),
        ("hnsw", "int8"),
        ("edge", "none"),
        ("edge", "int8"),
        ("edge", "binary"),
    ],
)
def test_built_rows_and_those_written_since_are_found_as_exactly(home, kind, quantization):
    held = clustered(COUNT)
    index = created(home, kind, Funnel(quantization=Quantization(quantization), oversampling=10))
    write(index, held[:-90])
    built(index)
    write(index, held[-90:], first=COUNT - 90)
    assert index.unbuilt() == 90 and index.count() == COUNT
    asked = clustered(20, seed=2)
    for share in (1.0, 0.25, 0.1):
        allowed = range(int(COUNT * (1 - share)) if share < 1 else 0)
        as_of = int(COUNT * share) - 1
        allowed = range(as_of + 1)
        found = nearest(index, asked, as_of=as_of, known_at=100_000)
        best = [truth(held, allowed, vector) for vector in asked]
        overlap = np.mean([len({*one} & {*other}) / 10 for one, other in zip(found, best, strict=True)])
        assert overlap >= 0.95, share
        assert all(len(one) == 10 for one in found)
    index.close()


def test_the_plan_says_how_many_pass_and_how_they_were_searched(home):
    index = created(home)
    write(index, clustered(COUNT))
    assert method(index, as_of=COUNT) == ("exact", COUNT, COUNT)
    built(index)
    assert method(index, as_of=COUNT) == ("lists", COUNT, COUNT)
    assert method(index, as_of=49) == ("exact", 50, COUNT)
    assert method(index, as_of=COUNT, tenant="rival") == ("exact", 0, 0)
    exact = replace(query(vector=clustered(1)[0], as_of=COUNT), exact=True)
    assert index.search([(exact, 10)])[0].plan[0].method == "exact"
    index.close()


def test_all_that_pass_are_found_when_they_lie_far_from_the_query(home):
    near, far = np.zeros((COUNT, WIDTH), np.float32), np.zeros((60, WIDTH), np.float32)
    near[:, 0], far[:, 0] = 1, -1
    noise = np.random.default_rng(3).normal(scale=0.1, size=(COUNT + 60, WIDTH)).astype(np.float32)
    held = np.concatenate([far, near]) + noise
    index = created(home)
    write(index, held)
    built(index)
    assert method(index, as_of=59)[0] == "lists"
    (found,) = nearest(index, near[:1], depth=60, as_of=59)
    assert sorted(found) == sorted(f"i{n}" for n in range(60))
    index.close()


def test_filters_and_moments_hold_through_the_index(home):
    held = clustered(COUNT)
    index = created(home)
    write(index, held)
    built(index)
    asked = clustered(1, seed=4)
    (found,) = nearest(index, asked, as_of=2_000, parity=["1"])
    assert found == truth(held, range(1, 2_001, 2), asked[0])
    index.close()


def test_a_rotated_and_cut_funnel_searches_its_own_dimensions(home):
    held = clustered(COUNT)
    basis = np.linalg.svd(held, full_matrices=False)[2][:8].astype(np.float32)
    funnel = Funnel(dimensions=8, rotation=Rotation.PCA, quantization=Quantization.INT8, oversampling=20)
    index = created(home, funnel=funnel, basis=basis)
    write(index, held)
    built(index)
    asked = clustered(10, seed=5)
    found = nearest(index, asked, as_of=COUNT)
    overlap = [len({*one} & {*truth(held, range(COUNT), vector)}) for one, vector in zip(found, asked, strict=True)]
    assert np.mean(overlap) >= 9
    index.close()


def test_an_item_with_many_rows_crowds_nobody_out_of_the_index(home):
    held = clustered(COUNT)
    index = created(home)
    write(index, held)
    vectors = np.repeat(held[:1], 300, axis=0)
    index.upsert("acme", "notes", [point(f"c{n}", item_id="crowd") for n in range(300)], vectors)
    built(index)
    (found,) = nearest(index, held[:1], depth=20, as_of=COUNT)
    assert len(found) == len(set(found)) == 20 and "crowd" in found
    index.close()


def test_rows_replaced_after_a_build_are_found_no_more(home):
    held = clustered(COUNT)
    index = created(home)
    write(index, held)
    built(index)
    write(index, -held[:5])
    (found,) = nearest(index, held[:1], as_of=COUNT)
    assert not {f"i{n}" for n in range(5)} & {*found[:1]} and index.count() == COUNT
    index.close()


def test_the_builder_process_makes_what_is_adopted_and_a_second_build_adds_to_it(home):
    held = clustered(COUNT)
    index = created(home)
    write(index, held[:2_500])
    build = index.begin_build()
    subprocess.run([sys.executable, *build.command], cwd=ROOT, check=True)
    write(index, held[2_500:], first=2_500)
    list(build.adopt())
    build.abandon()
    assert index.unbuilt() == 500
    built(index)
    assert index.unbuilt() == 0 and index.begin_build() is None
    assert sorted(path.name for path in home.rglob("index*")) == ["index-3000.coarse", "index-3000.postings"]
    index.close()


def test_an_abandoned_build_leaves_nothing(home):
    index = created(home)
    write(index, clustered(300))
    build = index.begin_build()
    subprocess.run([sys.executable, *build.command], cwd=ROOT, check=True)
    build.abandon()
    assert not [*home.rglob("index*")] and index.unbuilt() == 300
    index.close()


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidRequest, match="ivf"):
        check_kind("annoy")
