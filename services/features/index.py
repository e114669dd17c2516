"""Bitemporal lookup over sorted arrays: for many entities at once, the row that holds at a moment.

The arrays may be in memory or mapped from files. In memory rows lie in runs, each sorted by (entity, event, created);
an append adds a run, and runs of like size are merged, as in a log-structured merge tree (O'Neil et al., 1996), so that
an append never sorts all rows again. Runs are never changed and are swapped in one assignment: reads need no lock while
one writer adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bound = int | Ints
"""One instant for all entities, or one for each."""

_GROWTH = 4
_SMALL = 2048
_FIRST_WINDOW = 8
_WIDEST_WINDOW = 65_536


class Found(NamedTuple):
    """For each entity asked for the row that holds, -1 where none does, with its event and created."""

    row: Ints
    event: Ints
    created: Ints

    @classmethod
    def nothing(cls, count: int) -> Found:
        return cls(np.full(count, -1), np.zeros(count, np.int64), np.zeros(count, np.int64))

    def later(self, other: Found) -> npt.NDArray[np.bool_]:
        """Where the other's row holds instead: it has the later event, of equal ones the later created."""
        after = (other.event > self.event) | ((other.event == self.event) & (other.created >= self.created))
        wins: npt.NDArray[np.bool_] = (other.row >= 0) & ((self.row < 0) | after)
        return wins

    def updated(self, other: Found) -> Found:
        wins = self.later(other)
        return Found(*(np.where(wins, theirs, ours) for ours, theirs in zip(self, other, strict=True)))


def search(
    entity: npt.NDArray[Any], event: Ints, created: Ints, entities: npt.NDArray[Any], as_of: Bound, known_at: Bound
) -> Ints:
    """For each entity the position of the row with the latest event ≤ as_of among those with created ≤ known_at, of
    rows with the same event the last created; -1 where there is none.

    The three columns are of one length, sorted by (entity, event, created).
    """
    start = np.searchsorted(entity, entities, "left")
    stop = np.searchsorted(entity, entities, "right")
    if not (start < stop).any():
        return np.full(len(entities), -1)
    return _last_not_above(created, start, _first_above(event, start, stop, as_of), known_at)


@dataclass(frozen=True, slots=True)
class _Run:
    """Four columns of one length, sorted by (entity, event, created), no such triple twice."""

    entity: Ints
    event: Ints
    created: Ints
    row: Ints

    def __len__(self) -> int:
        return len(self.row)

    def latest(self, entities: Ints, as_of: Bound, known_at: Bound) -> Found:
        at = search(self.entity, self.event, self.created, entities, as_of, known_at)
        return Found(np.where(at < 0, -1, self.row[at]), self.event[at], self.created[at])


class PointInTimeIndex:
    """Row numbers by entity key, event and created. Of rows equal in all three the last added counts."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._runs: tuple[_Run, ...] = ()

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, keys: Sequence[str], event: Ints, created: Ints, row: Ints) -> None:
        """Add rows; all four of one length, `row` rising from call to call. One caller at a time."""
        if not len(keys):
            return
        ids = np.fromiter((self._ids.setdefault(key, len(self._ids)) for key in keys), np.int64, len(keys))
        runs = [*self._runs, _sorted_run(ids, event, created, row)]
        while len(runs) > 1 and len(runs[-2]) < max(_SMALL, len(runs[-1]) * _GROWTH):
            runs[-2:] = [_merge(runs[-2], runs[-1])]
        self._runs = tuple(runs)

    def latest(self, keys: Sequence[str], as_of: Bound, known_at: Bound) -> Found:
        """For each key the row with the latest event ≤ as_of among those created ≤ known_at, of rows with the same
        event the last created."""
        entities = np.fromiter((self._ids.get(key, -1) for key in keys), np.int64, len(keys))
        best = Found.nothing(len(keys))
        for run in self._runs:
            best = best.updated(run.latest(entities, as_of, known_at))
        return best


def _sorted_run(entity: Ints, event: Ints, created: Ints, row: Ints) -> _Run:
    order = np.lexsort((row, created, event, entity))
    entity, event, created, row = entity[order], event[order], created[order], row[order]
    last = np.ones(len(row), dtype=bool)
    last[:-1] = (np.diff(entity) != 0) | (np.diff(event) != 0) | (np.diff(created) != 0)
    return _Run(entity[last], event[last], created[last], row[last])


def _merge(older: _Run, newer: _Run) -> _Run:
    return _sorted_run(
        np.concatenate((older.entity, newer.entity)),
        np.concatenate((older.event, newer.event)),
        np.concatenate((older.created, newer.created)),
        np.concatenate((older.row, newer.row)),
    )


def _first_above(values: Ints, start: Ints, stop: Ints, bound: Bound) -> Ints:
    """For each slice [start, stop) of sorted values the first position above the bound: one binary search for all."""
    low, high = start.copy(), stop.copy()
    while (unsettled := low < high).any():
        middle = (low + high) // 2
        above = values[np.where(unsettled, middle, 0)] > bound
        low = np.where(unsettled & ~above, middle + 1, low)
        high = np.where(unsettled & above, middle, high)
    return low


def _last_not_above(values: Ints, start: Ints, stop: Ints, bound: Bound) -> Ints:
    """For each slice [start, stop) the last position not above the bound, -1 where there is none.

    The values of a slice are in no order; it is searched backwards in windows that grow, all slices at once.
    """
    found, bounds = np.full(len(start), -1), np.broadcast_to(np.asarray(bound, np.int64), start.shape)
    open_ = np.flatnonzero(start < stop)
    end, width = stop.copy(), _FIRST_WINDOW
    while open_.size:
        at = end[open_, None] - 1 - np.arange(width)
        hits = (at >= start[open_, None]) & (values[np.maximum(at, 0)] <= bounds[open_, None])
        hit = hits.any(axis=1)
        found[open_[hit]] = at[hit, hits[hit].argmax(axis=1)]
        end[open_] -= width
        open_ = open_[~hit & (end[open_] > start[open_])]
        width = min(width * _GROWTH, _WIDEST_WINDOW)
    return found
