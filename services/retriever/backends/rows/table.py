"""The rows of one searchable set (a tenant's collection and target) as columns in memory: 40 bytes a row, and 48 more
where they are many."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from services.common.moment import Extent, Moment, Span
from services.retriever.backends.rows.bits import Bits
from services.retriever.backends.rows.lookup import Rows
from services.retriever.backends.rows.moments import Moments, Times, visible

DEAD = np.iinfo(np.int64).min
"""The end of what was replaced or erased, and is never visible again."""
_GROWTH = 1.25
_INDEXED_FROM = 16_384
"""Rows; to compare so many takes 15 µs."""


class Table:
    """Rows in ascending order, with exact int64 extents. A set's size alone decides what looking through it costs."""

    def __init__(self, rows: Rows, times: Times) -> None:
        """rows: shape (n,); times: shape (4, n)."""
        self._size = len(rows)
        self._rows = np.ascontiguousarray(rows, np.int64)
        self._times = np.ascontiguousarray(times, np.int64)
        self.dead = 0
        self._moments = Moments(self._times) if self.large else None
        self._changed: list[int] | None = None

    def __len__(self) -> int:
        """Rows that are not dead."""
        return self._size - self.dead

    def append(self, rows: Rows, times: Times) -> None:
        size = self._size + len(rows)
        if size > len(self._rows):
            capacity = max(size, int(len(self._rows) * _GROWTH))
            self._rows = _widened(self._rows[np.newaxis], self._size, capacity)[0]
            self._times = _widened(self._times, self._size, capacity)
        self._rows[self._size : size] = rows
        self._times[:, self._size : size] = times
        self._size = size

    @property
    def rows(self) -> Rows:
        """All, the dead ones too, ascending."""
        return self._rows[: self._size]

    def allocated(self) -> int:
        indexed = self._moments.allocated() if self._moments else 0
        return self._rows.nbytes + self._times.nbytes + indexed

    def visible(self, moment: Moment) -> Bits:
        """Of which rows the extent holds the moment."""
        times = self._times[:, : self._size]
        if self._moments is None:
            return Bits.of(visible(times, moment))
        indexed = self._moments.rows
        told = self._moments.visible(times[:, :indexed], moment)
        if indexed == self._size:
            return told
        seen = Bits.none(self._size)
        seen.put(0, told)
        seen.put(indexed, Bits.of(visible(times[:, indexed:], moment)))
        return seen

    @property
    def large(self) -> bool:
        """Whether an index of its times pays."""
        return self._size >= _INDEXED_FROM

    def indexing(self) -> Callable[[], Moments]:
        """What indexes the times that the rows have now; it may run in another thread. Its outcome is for `adopt`."""
        self._changed = []
        return partial(Moments, self._times[:, : self._size])

    def adopt(self, moments: Moments) -> None:
        """The times that changed since are told as well."""
        for place in self._changed or ():
            moments.change(place)
        self._moments, self._changed = moments, None

    def living(self) -> Rows:
        rows: Rows = self._rows[: self._size][self._times[1, : self._size] != DEAD]
        return rows

    def holds(self, row: int) -> bool:
        """Whether the row is here and not dead."""
        place = self._place(row)
        return place < self._size and bool(self._rows[place] == row) and bool(self._times[1, place] != DEAD)

    def extent(self, row: int) -> Extent:
        valid_from, valid_to, recorded_from, recorded_to = self._times[:, self._place(row)].tolist()
        return Extent(Span(valid_from, valid_to), Span(recorded_from, recorded_to))

    def times(self, rows: Rows) -> Times:
        """Shape (4, len(rows))."""
        if self._size and self._rows[self._size - 1] - self._rows[0] + 1 == self._size:
            return self._times[:, rows - self._rows[0]]  # they lie together: to look them up costs more
        return self._times[:, np.searchsorted(self._rows[: self._size], rows)]

    def end(self, row: int, recorded_to: int) -> None:
        place = self._place(row)
        self._times[3, place] = recorded_to
        self._change(place)

    def kill(self, row: int) -> None:
        place = self._place(row)
        self.dead += int(self._times[1, place] != DEAD)
        self._times[1, place] = self._times[3, place] = DEAD
        self._change(place)

    def _change(self, place: int) -> None:
        if self._changed is not None:
            self._changed.append(place)
        if self._moments is not None:
            self._moments.change(place)

    def _place(self, row: int) -> int:
        return int(np.searchsorted(self._rows[: self._size], row))


def _widened(columns: npt.NDArray[np.int64], size: int, capacity: int) -> npt.NDArray[np.int64]:
    wide = np.empty((len(columns), capacity), np.int64)
    wide[:, :size] = columns[:, :size]
    return wide
