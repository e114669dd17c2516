"""Which rows are visible at a moment, found without comparing the times of most of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.common.moment import Moment
from services.retriever.backends.rows.bits import Mask

Times = npt.NDArray[np.int64]
"""Columns: valid_from, valid_to, recorded_from, recorded_to."""
_Words = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]

_STARTS = (True, False, True, False)
_PARTS = 32
"""Of each sorted column; their bitmaps take four bytes a row."""
_BLOCK = 64
"""Rows of a sorted column of which one time is kept."""
_MOST_CHANGED = 1 / 16
"""Share of the rows from which on to compare them all is quicker than to compare those that have changed."""


def visible(times: Times, moment: Moment) -> Mask:
    """Of which rows the extent holds the moment, by comparing them all. times: shape (4, n)."""
    valid_from, valid_to, recorded_from, recorded_to = times
    seen = (valid_from <= moment.as_of) & (moment.as_of < valid_to)
    seen &= (recorded_from <= moment.known_at) & (moment.known_at < recorded_to)
    return np.asarray(seen, np.bool_)


class Moments:
    """An index of the times of rows, 32 bytes a row: a million takes 0.1 ms, 1.4 ms by comparing all.

    Each column's rows are sorted, and bitmaps say which rows lie before each of some parts. A moment falls into one of
    them: the bitmaps tell the others, the order most of this one, and a block of rows is compared.
    """

    def __init__(self, times: Times) -> None:
        """times: shape (4, n), not kept."""
        self.rows = times.shape[1]
        self._columns = [_Column(column, start) for column, start in zip(times, _STARTS, strict=True)]
        self._all: _Words = np.full(-(-self.rows // 64), ~np.uint64(0))
        self._changed: set[int] = set()
        self._again = np.empty(0, np.int64)

    def allocated(self) -> int:
        """Bytes."""
        return sum(column.allocated() for column in self._columns)

    def change(self, place: int) -> None:
        """The row at the place has other times from now on."""
        if place < self.rows:
            self._changed.add(place)

    def visible(self, times: Times, moment: Moment) -> Mask:
        """As `visible`, by the times that the same rows have now."""
        if len(self._changed) > _MOST_CHANGED * self.rows:
            return visible(times, moment)
        instants = (moment.as_of, moment.as_of, moment.known_at, moment.known_at)
        possible, failing = self._all, []
        for column, *one in zip(self._columns, instants, times, strict=True):
            if side := column.at(*one):
                possible = possible & side[0]
                failing.append(side[1])
        seen = np.unpackbits(possible.view(np.uint8), count=self.rows, bitorder="little").view(np.bool_)
        for places in failing:
            seen[places] = False
        if len(self._again) < len(self._changed):
            self._again = np.array(sorted(self._changed), np.int64)
        seen[self._again] = visible(times[:, self._again], moment)
        return seen


class _Column:
    """Its rows sorted by time, in blocks; bitmaps of the rows before each of some blocks."""

    def __init__(self, times: npt.NDArray[np.int64], start: bool) -> None:
        """start: whether the times are when extents start, or when they end."""
        self._start = start
        order = np.argsort(times)
        self._order = order.astype(np.uint32)
        self._bounds = times[np.append(order[::_BLOCK], order[-1])]
        self._part = _BLOCK * -(-len(times) // (_PARTS * _BLOCK))
        self._before: _Words = np.zeros((_PARTS + 1, -(-len(times) // 64)), np.uint64)
        before = np.zeros(64 * self._before.shape[1], bool)
        for part in range(_PARTS):
            before[order[part * self._part : (part + 1) * self._part]] = True
            self._before[part + 1] = np.packbits(before, bitorder="little").view(np.uint64)

    def allocated(self) -> int:
        return int(self._order.nbytes + self._bounds.nbytes + self._before.nbytes)

    def at(self, when: int, times: npt.NDArray[np.int64]) -> tuple[_Words, _Places] | None:
        """The places whose extents may hold the time, as far as this end of them tells, and those of them that do not;
        None if all do. times: of all places, as they are now."""
        block = int(np.searchsorted(self._bounds, when, side="right"))  # the first that is all later
        if block == (len(self._bounds) if self._start else 0):
            return None
        first, later = max(block - 1, 0) * _BLOCK, block * _BLOCK
        between = self._order[first:later].astype(np.int64)
        between = between[(times[between] > when) == self._start]
        if self._start:
            part = min(-(-later // self._part), _PARTS)
            possible, beyond = self._before[part], self._order[later : part * self._part]
        else:
            part = first // self._part
            possible, beyond = np.invert(self._before[part]), self._order[part * self._part : first]
        return possible, np.concatenate([between, beyond])
