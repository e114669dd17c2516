"""Bits say of rows what a mask says."""

import numpy as np
import pytest

from services.retriever.backends.rows.bits import Bits


@pytest.mark.parametrize("rows", [1, 7, 64, 65, 1_000])
@pytest.mark.parametrize("first", [0, 1, 7, 8, 63, 64, 100])
def test_rows_that_are_put_in_at_any_place_are_the_ones_told(rows, first):
    mask = np.random.default_rng(rows).random(rows) < 0.5
    for after in (0, 1, 70):
        whole = np.concatenate([np.zeros(first, bool), mask, np.zeros(after, bool)])
        bits = Bits.none(len(whole))
        bits.put(first, Bits.of(mask))
        assert np.array_equal(bits.packed, Bits.of(whole).packed)
        assert bits.listed().tolist() == np.flatnonzero(whole).tolist() and len(bits) == mask.sum()
        assert bits.holds(np.arange(len(whole))).tolist() == whole.tolist()


def test_what_is_put_beside_others_leaves_them():
    bits = Bits.none(40)
    bits.put(0, Bits.of(np.ones(13, bool)))
    bits.put(13, Bits.of(np.array([False, True, True])))
    bits.put(16, Bits.of(np.ones(24, bool)))
    assert bits.listed().tolist() == [*range(13), *range(14, 40)]
