"""The FAISS backend's postings: which rows carry a term, and which of them may be seen."""

import numpy as np
import pytest

from services.retriever.backends.rows.allowed import Allowed
from services.retriever.backends.rows.bits import Bits
from services.retriever.backends.rows.postings import TERM, BuiltPostings, RecentPostings, write_postings

ROWS = [[(7, 0.5), (3, 1.0)], [], [(7, 2.0)], [(2**32 - 1, 1.5)]]


def terms_of(rows):
    return [np.array(row, TERM) for row in rows]


def listed(posting):
    return [part.tolist() for part in posting]


def test_postings_written_and_read_are_those_of_the_rows(tmp_path):
    terms = terms_of(ROWS)
    write_postings(tmp_path / "p", np.concatenate(terms), np.cumsum([len(row) for row in terms]).astype(np.uint64))
    built, recent = BuiltPostings(tmp_path / "p"), RecentPostings()
    for row, held in enumerate(terms):
        recent.add(row, held)
    for postings in (built, recent):
        assert listed(postings.of_term(7)) == [[0, 2], [0.5, 2.0]]
        assert listed(postings.of_term(2**32 - 1)) == [[3], [1.5]]
        assert listed(postings.of_term(4)) == [[], []]


@pytest.mark.parametrize(
    ("share", "carriers"), [(0.001, 0.9), (0.9, 0.001), (0.5, 0.5), (0.0, 0.5), (0.5, 0.0), (1, 1)]
)
def test_what_is_allowed_within_a_posting_is_their_intersection(share, carriers):
    random, held = np.random.default_rng(1), 5_000
    place = np.flatnonzero(random.random(held) < 0.8)
    allowed = Allowed(place, Bits.of(random.random(len(place)) < share), held)
    rows = np.flatnonzero(random.random(held) < carriers).astype(np.uint32)
    places, weights = allowed.within((rows, rows.astype(np.float32)))
    common = np.intersect1d(allowed.rows, rows)
    assert allowed.rows[places].tolist() == common.tolist() == weights.tolist()


@pytest.mark.parametrize("scattered", [False, True])
def test_bits_cover_the_first_rows_and_the_others_come_after(scattered):
    place = np.arange(10, 90, 1 + scattered)
    seen = place % 3 == 0
    allowed = Allowed(place, Bits.of(seen), 100)
    assert allowed.bits(50).listed().tolist() == [row for row in place[seen].tolist() if row < 50]
    assert allowed.since(50).tolist() == [row for row in place[seen].tolist() if row >= 50]
    assert len(allowed) == len(allowed.rows) and len(Allowed.none()) == 0
    assert not len(allowed.bits(5)) and not len(Allowed.none().bits(5))
