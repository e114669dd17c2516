"""The FAISS backend's files: what counts after a crash, and what is left after an erasure."""

import json

import numpy as np
import pytest

from services.common.errors import Conflict, InvalidRequest
from services.common.moment import OPEN_END, OPEN_START
from services.common.nodes.retriever import Close
from services.retriever.backends.rows.lookup import Lookup
from tests.fakes.faiss import built, clustered, created, nearest, reopened, write
from tests.fakes.retriever import index_directory, point

ALL = clustered(1, seed=9)


@pytest.fixture
def home():
    with index_directory() as directory:
        yield directory


def items(index, depth=1_000, **asked):
    return set(nearest(index, ALL, depth, **{"as_of": 100_000, "known_at": 10} | asked)[0])


def test_what_was_not_committed_is_dropped_wherever_the_append_was_cut(home):
    index = created(home)
    write(index, clustered(5))
    index.upsert("acme", "notes", [point("late")], clustered(1))
    index.end("acme", "notes", [Close("p0", 9)])
    index.close()  # which commits nothing
    for name in ("rows", "vectors", "texts", "terms", "labels", "ends"):
        (path,) = home.rglob(f"{name}.bin")
        with path.open("ab") as file:
            file.write(b"half")
    again = reopened(home)
    assert items(again) == {f"i{n}" for n in range(5)} and again.watermark("acme", "notes") == 10
    write(again, clustered(6), first=5)
    assert again.count() == 11
    again.close()


def test_a_reopened_index_knows_ends_replacements_and_watermarks(home):
    index = created(home)
    write(index, clustered(4))
    index.end("acme", "notes", [Close("p1", 7)])
    index.upsert("acme", "notes", [point("p2", valid=(5, 6), item_id="again")], clustered(1))
    index.commit("acme", "notes", 20)
    before = items(index), items(index, known_at=6), items(index, as_of=5)
    index.close()
    again = reopened(home)
    assert (items(again), items(again, known_at=6), items(again, as_of=5)) == before
    assert before == ({"i0", "i3"}, {"i0", "i1", "i3"}, {"i0", "i3", "again"})
    assert again.count() == 4 and again.watermarks() == {("acme", "notes"): 20}
    assert again.watermark("acme", "other") == OPEN_START
    again.close()


def test_a_point_twice_in_one_batch_is_the_later_one(home):
    index = created(home)
    index.upsert("acme", "notes", [point("p", item_id="old"), point("p", item_id="new")], clustered(2))
    assert items(index) == {"new"} and index.count() == 1
    index.close()


def test_a_built_index_serves_again_after_a_restart(home):
    index = created(home)
    write(index, clustered(2_000))
    built(index)
    found = nearest(index, clustered(5, seed=3), as_of=2_000)
    index.close()
    again = reopened(home)
    assert again.unbuilt() == 0 and nearest(again, clustered(5, seed=3), as_of=2_000) == found
    again.close()


@pytest.mark.parametrize("with_index", [False, True])
def test_nothing_of_an_erased_document_is_left_in_any_file(home, with_index):
    index = created(home)
    write(index, clustered(300))
    vector = clustered(1, seed=7)
    index.upsert("acme", "notes", [point("p", item_id="marker", colour="marked-colour")], vector)
    index.commit("acme", "notes", 400)
    if with_index:
        built(index)
    bits = (vector / np.linalg.norm(vector)).astype(np.float32)[0, :4].tobytes()
    assert holds(home, b"doc-marker") and holds(home, bits)
    assert index.erase("acme", "notes", "doc-marker") == 1
    assert "marker" not in items(index)
    list(index.rewrite())
    assert not holds(home, b"marker") and not holds(home, b"marked") and not holds(home, bits)
    assert len(items(index)) == 300 and index.erase("acme", "notes", "doc-marker") == 0
    index.close()
    again = reopened(home)
    assert len(items(again)) == 300 and again.watermark("acme", "notes") == 400
    again.close()


def test_an_index_of_an_older_format_is_refused_and_says_what_to_do(home):
    created(home).close()
    (state,) = home.rglob("state.json")
    held = json.loads(state.read_text())
    for changed, message in (({"schema": 1}, "older format"), ({"engine": "edge"}, "the edge backend")):
        state.write_text(json.dumps(held | changed))
        with pytest.raises(Conflict, match=message):
            reopened(home)


def test_a_rewrite_given_up_half_way_changes_nothing(home):
    index = created(home)
    write(index, clustered(600))
    steps = index.rewrite()
    next(steps)
    steps.close()
    assert len(items(index)) == 600
    index.close()
    (home / "g" / "segment-half").mkdir()
    again = reopened(home)
    assert len(items(again)) == 600 and [path.name for path in (home / "g").glob("segment*")] == ["segment"]
    again.close()


def test_contents_do_not_depend_on_the_order_or_the_rows_that_are_dead(home):
    with index_directory() as other:
        one, two = created(home), created(other)
        write(one, clustered(300))
        two.upsert("acme", "notes", [point("p3", valid=(1, 2))], clustered(1))
        for start in (200, 0, 100):
            write(two, clustered(100), first=start)
        assert [*one.contents("acme", "notes")][-1] == [*two.contents("acme", "notes")][-1]
        two.end("acme", "notes", [Close("p3", 9)])
        assert [*one.contents("acme", "notes")][-1] != [*two.contents("acme", "notes")][-1]
        one.close()
        two.close()


def test_what_is_not_held_is_not_closed_and_other_widths_are_refused(home):
    index = created(home)
    write(index, clustered(2))
    with pytest.raises(Conflict, match="rebuild"):
        index.end("rival", "notes", [Close("p0", OPEN_END)])
    with pytest.raises(InvalidRequest, match="16 dimensions"):
        index.upsert("acme", "notes", [point("x")], np.ones((1, 3), np.float32))
    index.close()


def test_a_lookup_gives_every_row_of_a_code_whether_sorted_in_or_recent():
    lookup = Lookup(np.array([7, 5, 7], np.uint64), np.array([0, 1, 2]))
    for row in range(3, 20_000):
        lookup.add(5 if row % 2 else 2**63 + row, row)
    assert lookup.rows(7).tolist() == [0, 2]
    assert lookup.rows(5).tolist() == [1, *range(3, 20_000, 2)]
    assert lookup.rows(2**63 + 4).tolist() == [4] and lookup.rows(1).tolist() == []


def holds(directory, marker):
    return any(marker in path.read_bytes() for path in directory.rglob("*") if path.is_file())
