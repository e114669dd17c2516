"""The rows of one searchable set (a tenant's collection and target) as columns in memory: 40 bytes a row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.common.moment import Extent, Moment, Span
from services.retriever.backends.rows.lookup import Rows

Times = npt.NDArray[np.int64]
"""Columns: valid_from, valid_to, recorded_from, recorded_to."""

DEAD = np.iinfo(np.int64).min
"""The end of what was replaced or erased, and is never visible again."""
_GROWTH = 1.25


class Table:
    """Rows in ascending order, with exact int64 extents. A set's size alone decides what looking through it costs."""

    def __init__(self, rows: Rows, times: Times) -> None:
        """rows: shape (n,); times: shape (4, n)."""
        self._size = len(rows)
        self._rows = np.ascontiguousarray(rows, np.int64)
        self._times = np.ascontiguousarray(times, np.int64)
        self.dead = 0

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
        return self._rows.nbytes + self._times.nbytes

    def visible(self, moment: Moment) -> npt.NDArray[np.bool_]:
        """Of which rows the extent holds the moment."""
        valid_from, valid_to, recorded_from, recorded_to = self._times[:, : self._size]
        seen = (valid_from <= moment.as_of) & (moment.as_of < valid_to)
        seen &= (recorded_from <= moment.known_at) & (moment.known_at < recorded_to)
        return np.asarray(seen, np.bool_)

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
        return self._times[:, np.searchsorted(self._rows[: self._size], rows)]

    def end(self, row: int, recorded_to: int) -> None:
        self._times[3, self._place(row)] = recorded_to

    def kill(self, row: int) -> None:
        place = self._place(row)
        self.dead += int(self._times[1, place] != DEAD)
        self._times[1, place] = self._times[3, place] = DEAD

    def _place(self, row: int) -> int:
        return int(np.searchsorted(self._rows[: self._size], row))


def _widened(columns: npt.NDArray[np.int64], size: int, capacity: int) -> npt.NDArray[np.int64]:
    wide = np.empty((len(columns), capacity), np.int64)
    wide[:, :size] = columns[:, :size]
    return wide
