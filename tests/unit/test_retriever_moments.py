"""The index of times tells what comparing every row tells."""

import numpy as np
import pytest

from services.common.moment import OPEN_END, OPEN_START, Moment
from services.retriever.backends.rows.moments import Moments, visible
from services.retriever.backends.rows.table import DEAD, Table

ROWS = 20_001


def times(seed, distinct):
    """Few distinct times make long ties; some are open, some dead."""
    random = np.random.default_rng(seed)
    held = random.integers(-distinct, distinct, (4, ROWS), dtype=np.int64)
    held[0, random.random(ROWS) < 0.1] = OPEN_START
    for column in (1, 3):
        held[column, random.random(ROWS) < 0.4] = OPEN_END
    held[1:4:2, random.random(ROWS) < 0.05] = DEAD
    return held


def moments(held, seed):
    random = np.random.default_rng(seed)
    edges = [OPEN_START, OPEN_START + 1, OPEN_END - 1, 0, *held.min(axis=1), *held[0:4:2].max(axis=1)]
    chosen = [*edges, *random.choice(held[0], 10), *(random.choice(held[2], 10) + 1)]
    return [Moment(int(a), int(b)) for a, b in random.choice(np.array(chosen, np.int64), (60, 2))]


@pytest.mark.parametrize("distinct", [1, 3, 500, 10**15])
def test_every_moment_shows_the_rows_that_a_comparison_shows(distinct):
    held = times(1, distinct)
    index = Moments(held)
    for moment in moments(held, 2):
        assert np.array_equal(index.visible(held, moment).mask(), visible(held, moment)), moment


@pytest.mark.parametrize("changed", [3, 900, 5_000])
def test_times_that_change_count_from_then_on(changed):
    held = times(3, 10**6)
    index = Moments(held)
    for place in np.random.default_rng(4).integers(ROWS, size=changed).tolist():
        held[3, place] = place
        index.change(place)
    for moment in moments(held, 5):
        assert np.array_equal(index.visible(held, moment).mask(), visible(held, moment)), moment


def test_a_table_shows_what_came_ended_and_died_while_its_times_were_sorted_and_after():
    held = times(6, 10**6)
    table = Table(np.arange(ROWS), held)
    table.end(7, 5)
    sorting = table.indexing()
    table.end(8, 5)
    index = sorting()
    table.kill(9)
    table.append(np.arange(ROWS, ROWS + 5), held[:, :5])
    table.adopt(index)
    table.end(10, 5)
    table.end(ROWS + 1, 5)
    expected = np.concatenate([held, held[:, :5]], axis=1)
    expected[3, [7, 8, 10, ROWS + 1]] = 5
    expected[1:4:2, 9] = DEAD
    for moment in moments(held, 7):
        assert np.array_equal(table.visible(moment).mask(), visible(expected, moment)), moment


def test_moments_between_which_no_time_lies_share_their_rows_until_others_were_asked_about():
    held = 10 * times(8, 10**6)
    index = Moments(held)
    first = index.visible(held, Moment(1, 1))
    assert index.visible(held, Moment(9, 9)) is first
    for as_of in (101_001, 202_001, 303_001, 404_001):
        assert index.visible(held, Moment(as_of, 1)) is not first
    again = index.visible(held, Moment(1, 1))
    assert again is not first and np.array_equal(again.packed, first.packed)


def test_a_moment_asked_about_before_shows_what_has_changed_since():
    held = times(9, 10**6)
    index, moment = Moments(held), Moment(0, 0)
    before = index.visible(held, moment)
    ended = int(before.listed()[0])
    held[3, ended] = -(10**7)
    index.change(ended)
    assert set(before.listed()) - set(index.visible(held, moment).listed()) == {ended}


def test_a_table_whose_rows_are_all_gone_shows_nothing():
    table = Table(np.empty(0, np.int64), np.empty((4, 0), np.int64))
    nothing = table.visible(Moment(0, 0))
    assert not len(nothing) and table.times(nothing.listed()).shape == (4, 0)


@pytest.mark.parametrize("apart", [1, 2])
def test_a_table_tells_the_times_of_its_rows(apart):
    held = times(10, 10**6)
    table = Table(np.arange(5, 5 + apart * ROWS, apart), held)
    places = np.array([0, 7, ROWS - 1])
    assert np.array_equal(table.times(5 + apart * places), held[:, places])
