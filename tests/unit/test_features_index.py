"""The point-in-time index against a naive search, and that appends do not sort everything again."""

import numpy as np
import pytest

from services.features.index import PointInTimeIndex


def naive(rows, key, as_of, known_at):
    """Rows are (key, event, created), their number is their place."""
    held = [
        (event, created, number)
        for number, (of, event, created) in enumerate(rows)
        if of == key and event <= as_of and created <= known_at
    ]
    return max(held)[2] if held else -1


def add(index, rows, first=0):
    keys, events, created = zip(*rows, strict=True)
    index.add(keys, np.array(events), np.array(created), np.arange(first, first + len(rows)))


@pytest.mark.parametrize("sizes", [[400], [300, 60, 30, 10], [1] * 60, [2500, 700, 300, 300]])
def test_the_index_equals_a_naive_search_however_it_was_filled(sizes):
    random = np.random.default_rng(7)
    index, rows = PointInTimeIndex(), []
    for size in sizes:
        new = [(f"e{k}", int(e), int(c)) for k, e, c in random.integers(0, (9, 30, 30), (size, 3))]
        add(index, new, len(rows))
        rows += new
    keys = [f"e{number}" for number in range(11)]
    for as_of, known_at in random.integers(-2, 33, (60, 2)).tolist():
        expected = [naive(rows, key, as_of, known_at) for key in keys]
        assert index.latest(keys, as_of, known_at).row.tolist() == expected


def test_a_row_known_long_before_many_later_ones_is_found():
    index = PointInTimeIndex()
    add(index, [("e", 5, 1), *(("e", 6 + number, 100) for number in range(100_000))])
    assert index.latest(["e", "e"], 10**9, 99).row.tolist() == [0, 0]
    assert index.latest(["e"], 10**9, 100).row.tolist() == [100_000]


def test_the_same_row_twice_is_held_once():
    index = PointInTimeIndex()
    add(index, [("e", 1, 1), ("f", 1, 1)])
    add(index, [("e", 1, 1)], 2)
    assert len(index) == 2
    assert index.latest(["e", "f"], 1, 1).row.tolist() == [2, 1]


def test_extreme_instants_do_not_overflow():
    index, far = PointInTimeIndex(), 2**62
    add(index, [("e", -far, -far), ("e", far, far)])
    assert index.latest(["e"], -far, -far).row.tolist() == [0]
    assert index.latest(["e"], far, far).row.tolist() == [1]
    assert index.latest(["e"], -far - 1, far).row.tolist() == [-1]


def test_an_empty_index_finds_nothing():
    assert PointInTimeIndex().latest(["e"], 0, 0).row.tolist() == [-1]


def test_small_appends_leave_the_large_run_alone():
    index = PointInTimeIndex()
    add(index, [(f"e{number}", 1, 1) for number in range(50_000)])
    large = index._runs[0]
    for number in range(100):
        add(index, [("e1", 2 + number, 2)], 50_000 + number)
    assert index._runs[0] is large and len(index._runs) <= 3
    assert index.latest(["e1"], 10**6, 10).row.tolist() == [50_099]
