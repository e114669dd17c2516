"""The rows that a search may find."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.retriever.backends.rows.bits import Bits
from services.retriever.backends.rows.lookup import Rows
from services.retriever.backends.rows.postings import Posting, Weights

_LOOKED_UP = 16
"""Times the one side must be longer for the other to be looked up in it: a lookup costs as much as so many steps."""


class Allowed:
    """Those of a place's rows that are seen. A list of them all is made only where somebody asks for it: for 200,000 it
    takes longer than to find out which they are."""

    def __init__(self, place: Rows, seen: Bits, held: int) -> None:
        """place: the place's rows, ascending; seen: which of them; held: how many rows there are in all places."""
        self._place = place
        self._seen = seen
        self._held = held

    @classmethod
    def none(cls) -> Allowed:
        return cls(np.empty(0, np.int64), Bits.none(0), 0)

    def __len__(self) -> int:
        return len(self._seen)

    @cached_property
    def rows(self) -> Rows:
        """Ascending."""
        return self._place[self._seen.listed()]

    def since(self, row: int) -> Rows:
        """Those from `row` on, ascending."""
        at = self._before(row)
        return self._place[at:][self._seen.mask(at)]

    def bits(self, rows: int) -> Bits:
        """Of the first rows of all, which are allowed."""
        size = self._before(rows)
        if not size:
            return Bits.none(rows)
        first, last = int(self._place[0]), int(self._place[size - 1])
        if last - first + 1 == size:  # they lie together: many times as fast as by their numbers
            seen = self._seen if size == len(self._place) else Bits.of(self._seen.mask()[:size])
            return seen.moved(first, rows)
        mask = np.zeros(rows, bool)
        mask[self._place[:size]] = self._seen.mask()[:size]
        return Bits.of(mask)

    def _before(self, row: int) -> int:
        """How many of the place's rows come before the row: all of them, as a rule."""
        all_come = not len(self._place) or self._place[-1] < row
        return len(self._place) if all_come else int(np.searchsorted(self._place, row))

    def within(self, posting: Posting) -> tuple[Rows, Weights]:
        """The places in `rows` of those in the posting, and their weights. What few may see does not cost what many
        have: they are looked up in the posting."""
        rows, weights = posting
        if len(self) * _LOOKED_UP < len(rows):
            at = np.searchsorted(rows, self.rows.astype(np.uint32))
            at[at == len(rows)] = 0
            found = rows[at] == self.rows
            return np.flatnonzero(found), weights[at[found]]
        if len(rows) * _LOOKED_UP < self._held and len(self):
            at = np.searchsorted(self.rows, rows)
            at[at == len(self)] = 0
            found = self.rows[at] == rows
            return at[found], weights[found]
        places = self._all_places[rows]
        return places[places >= 0].astype(np.int64), weights[places >= 0]

    @cached_property
    def _all_places(self) -> npt.NDArray[np.int32]:
        places = np.full(self._held, -1, np.int32)
        places[self.rows] = np.arange(len(self), dtype=np.int32)
        return places
