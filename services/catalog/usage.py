"""What documents were used for, and the features that follow from it: counts over windows, at any moment.

A use counts from `since` on, in a window of N days until N days after `began`, which is rounded up to the full hour for
one day and to midnight UTC for more: a window of 7 days reaches back to the midnight 7 days before. So a document's
counts are a step function of valid time that is known for all the future; what is recorded later changes it from its
own instant on, and `restated` gives the rows that say so. They are a function of the log alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from services.catalog.erasing import under_way
from services.catalog.tables import usage
from services.common.batches import batched
from services.common.moment import OPEN_END
from services.common.nodes.features import FeatureRow
from services.common.nodes.scope import Stretch
from services.common.nodes.usage import DAY, EVER, FIELDS, MEASURES, MONTH, WEEK, WINDOWS

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
LENGTHS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {DAY: (DAY_US, HOUR_US), WEEK: (7 * DAY_US, DAY_US), MONTH: (30 * DAY_US, DAY_US), EVER: (0, 0)}
)
"""Window → its length and the step it ends in, microseconds; what is counted for ever has neither."""

_DOCUMENTS = 32
"""Documents whose uses are held at once."""

Ints = npt.NDArray[np.int64]
Instant = TypeVar("Instant", int, Ints)


@dataclass(frozen=True, slots=True)
class Use:
    """`times` may be below 0: what counted from `began` on is taken back from `since` on."""

    measure: str
    since: int
    began: int
    recorded: int
    times: int


@dataclass(frozen=True, slots=True)
class _Steps:
    """What each count grows by at an instant, on record since `recorded`; all of one length."""

    instant: Ints
    field: Ints
    recorded: Ints
    by: Ints


def rounded_up(instant: Instant, step: int) -> Instant:
    """The first multiple of the step that is not before the instant, or before each."""
    return -(-instant // step) * step


def usage_changes(tx: Connection, stretch: Stretch) -> Iterator[list[FeatureRow]]:
    """What the view of usage has to append for a stretch of the record, in batches; nothing of what is being erased."""
    here = (usage.c.tenant == stretch.tenant, usage.c.collection == stretch.collection)
    touched = (
        select(usage.c.doc_id)
        .distinct()
        .where(
            *here,
            usage.c.recorded_at > stretch.start,
            usage.c.recorded_at <= stretch.end,
            usage.c.doc_id.not_in(under_way(tx, stretch.tenant, stretch.collection)),
        )
    )
    for documents in batched(list(tx.execute(touched.order_by(usage.c.doc_id)).scalars()), _DOCUMENTS):
        query = (
            select(usage)
            .where(*here, usage.c.doc_id.in_(documents), usage.c.recorded_at <= stretch.end)
            .order_by(usage.c.doc_id)
        )
        for document, rows in groupby(tx.execute(query), key=lambda row: str(row.doc_id)):
            uses = [Use(row.measure, row.since, row.began, row.recorded_at, row.times) for row in rows]
            yield [
                FeatureRow(document, True, event, created, values)
                for event, created, values in restated(uses, stretch.start)
            ]


def restated(uses: Sequence[Use], after: int) -> Iterator[tuple[int, int, dict[str, int]]]:
    """(event, created, counts) of every row that what was recorded after `after` calls for.

    A row stands where a count is another than it was on record before, and where one changes and did not before; so the
    latest event ≤ as_of among the rows created ≤ known_at has the counts at every moment.
    """
    steps = _steps(uses)
    for recorded in np.unique(steps.recorded[steps.recorded > after]).tolist():
        first = int(steps.instant[steps.recorded == recorded].min())
        known = steps.recorded <= recorded
        instants = np.unique(steps.instant[known & (steps.instant >= first)])
        new, old = (_counts(steps, mask, first, instants) for mask in (known, steps.recorded < recorded))
        changed = (new[1:] != old[1:]).any(axis=1) | (_jumps(new) & ~_jumps(old))
        for at in np.flatnonzero(changed & (instants < OPEN_END)).tolist():
            yield int(instants[at]), recorded, dict(zip(FIELDS, new[at + 1].tolist(), strict=True))


def _steps(uses: Sequence[Use]) -> _Steps:
    """Each use begins to count in every window, and ceases to."""
    said = [(MEASURES.index(use.measure), use.since, use.began, use.recorded, use.times) for use in uses]
    measure, since, began, recorded, times = np.array(said, np.int64).reshape(-1, 5).T
    parts = []
    for window, (length, step) in enumerate(map(LENGTHS.__getitem__, WINDOWS)):
        until = rounded_up(began, step) + length if length else np.full_like(began, OPEN_END)
        field, counts = measure * len(WINDOWS) + window, until > since
        parts += [
            np.stack(part)[:, counts] for part in ((since, field, recorded, times), (until, field, recorded, -times))
        ]
    return _Steps(*np.concatenate(parts, axis=1))


def _counts(steps: _Steps, mask: npt.NDArray[np.bool_], first: int, instants: Ints) -> Ints:
    """Of the steps chosen: the counts before `first`, then at each instant; shape (1 + instants, fields)."""
    found = np.zeros((1 + len(instants), len(FIELDS)), np.int64)
    before, since = mask & (steps.instant < first), mask & (steps.instant >= first)
    np.add.at(found[0], steps.field[before], steps.by[before])
    places = 1 + np.searchsorted(instants, steps.instant[since])
    np.add.at(found, (places, steps.field[since]), steps.by[since])
    return found.cumsum(axis=0)


def _jumps(counts: Ints) -> npt.NDArray[np.bool_]:
    jumps: npt.NDArray[np.bool_] = (counts[1:] != counts[:-1]).any(axis=1)
    return jumps
