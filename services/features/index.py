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
_FEW = 4096
"""Rows of all entities asked for that are looked at one and all; of more, the one that holds is searched for."""
_FIRST_WINDOW = 8
_WIDEST_WINDOW = 65_536


class Found(NamedTuple):
    """For each entity asked for the row that holds, -1 where none does, its event and created, and where it lies."""

    row: Ints
    event: Ints
    created: Ints
    place: Ints

    @classmethod
    def nothing(cls, count: int) -> Found:
        return cls(np.full(count, -1), *(np.zeros(count, np.int64) for _ in range(3)))

    def updated(self, other: Found) -> Found:
        """With the other's row where it has the later event, of equal ones the later created."""
        after = (other.event > self.event) | ((other.event == self.event) & (other.created >= self.created))
        wins = (other.row >= 0) & ((self.row < 0) | after)
        return Found(*(np.where(wins, theirs, ours) for ours, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of one length, sorted by (entity, event, created), no such triple twice. A row is named by `row`, or by
    its position."""

    entity: npt.NDArray[Any]
    event: Ints
    created: Ints
    row: Ints | None = None

    def __len__(self) -> int:
        return len(self.entity)

    def names(self, at: Ints) -> Ints:
        return at if self.row is None else self.row[at]


def latest(parts: Sequence[tuple[Columns, npt.NDArray[Any]]], count: int, as_of: Bound, known_at: Bound) -> Found:
    """For each of `count` entities the row with the latest event ≤ as_of among those with created ≤ known_at in all
    parts, of rows with the same event the last created.

    A part is columns and the entities as these columns know them. `place` is the part's number.
    """
    start, stop = np.zeros((2, len(parts), count), np.int64)
    for place, (columns, entities) in enumerate(parts):
        start[place] = np.searchsorted(columns.entity, entities, "left")
        stop[place] = np.searchsorted(columns.entity, entities, "right")
    totals, best = (stop - start).sum(axis=1), Found.nothing(count)
    for place in np.flatnonzero(totals > _FEW).tolist():
        best = best.updated(_searched(parts[place][0], start[place], stop[place], place, as_of, known_at))
        stop[place] = start[place]
    if ((totals > 0) & (totals <= _FEW)).any():
        best = best.updated(_chosen(*_all([columns for columns, _ in parts], start, stop), count, as_of, known_at))
    return best


def _all(parts: Sequence[Columns], start: Ints, stop: Ints) -> tuple[Ints, Found]:
    """All rows of slices by part and entity asked for, with the number of the entity."""
    lengths = (stop - start).ravel()
    ends = np.cumsum(lengths)
    number = np.repeat(np.arange(len(lengths)), lengths)
    at = np.arange(len(number)) + (start.ravel() - ends + lengths)[number]
    place, asked = np.divmod(number, start.shape[1])
    row, event, created = np.zeros((3, len(number)), np.int64)
    last = 0
    for columns, end in zip(parts, ends[start.shape[1] - 1 :: start.shape[1]].tolist(), strict=True):
        if end > last:
            here = at[last:end]
            row[last:end] = columns.names(here)
            event[last:end], created[last:end] = columns.event[here], columns.created[here]
        last = end
    return asked, Found(row, event, created, place)


def _chosen(asked: Ints, rows: Found, count: int, as_of: Bound, known_at: Bound) -> Found:
    """Of rows in any order the one that holds for each entity."""
    holds = np.flatnonzero((rows.event <= _of(as_of, asked)) & (rows.created <= _of(known_at, asked)))
    order = holds[np.lexsort((rows.created[holds], rows.event[holds], asked[holds]))]
    best = Found.nothing(count)
    for ours, theirs in zip(best, rows, strict=True):
        ours[asked[order]] = theirs[order]  # of several the last counts
    return best


def _of(bound: Bound, asked: Ints) -> Bound:
    return bound if isinstance(bound, int) else bound[asked]


def _searched(columns: Columns, start: Ints, stop: Ints, place: int, as_of: Bound, known_at: Bound) -> Found:
    """What holds of slices that may be long."""
    at = _last_not_above(columns.created, start, _first_above(columns.event, start, stop, as_of), known_at)
    rows = np.where(at < 0, -1, columns.names(at))
    return Found(rows, columns.event[at], columns.created[at], np.full(len(at), place))


class PointInTimeIndex:
    """Row numbers by entity key, event and created. Of rows equal in all three the last added counts."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._runs: tuple[Columns, ...] = ()

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, keys: Sequence[str], event: Ints, created: Ints, row: Ints) -> None:
        """Add rows; all four of one length, `row` rising from call to call. One caller at a time."""
        if not len(keys):
            return
        ids = np.fromiter((self._ids.setdefault(key, len(self._ids)) for key in keys), np.int64, len(keys))
        runs = [*self._runs, _sorted(ids, event, created, row)]
        while len(runs) > 1 and len(runs[-2]) < max(_SMALL, len(runs[-1]) * _GROWTH):
            runs[-2:] = [_merge(runs[-2], runs[-1])]
        self._runs = tuple(runs)

    def latest(self, keys: Sequence[str], as_of: Bound, known_at: Bound) -> Found:
        """For each key the row with the latest event ≤ as_of among those created ≤ known_at, of rows with the same
        event the last created."""
        return latest(self.parts(keys), len(keys), as_of, known_at)

    def parts(self, keys: Sequence[str]) -> list[tuple[Columns, npt.NDArray[Any]]]:
        """What a search for the keys has to look at."""
        entities = np.fromiter((self._ids.get(key, -1) for key in keys), np.int64, len(keys))
        return [(run, entities) for run in self._runs]


def _sorted(entity: Ints, event: Ints, created: Ints, row: Ints) -> Columns:
    order = np.lexsort((row, created, event, entity))
    entity, event, created, row = entity[order], event[order], created[order], row[order]
    last = np.ones(len(row), dtype=bool)
    last[:-1] = (np.diff(entity) != 0) | (np.diff(event) != 0) | (np.diff(created) != 0)
    return Columns(entity[last], event[last], created[last], row[last])


def _merge(older: Columns, newer: Columns) -> Columns:
    return _sorted(
        np.concatenate((older.entity, newer.entity)),
        np.concatenate((older.event, newer.event)),
        np.concatenate((older.created, newer.created)),
        np.concatenate([run.names(np.arange(len(run))) for run in (older, newer)]),
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
