"""Record time: given out inside the commit, under the collection's lock, strictly increasing."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Row, select, update

from services.catalog.inserts import insert_new
from services.catalog.tables import collections
from services.common.errors import Conflict, InvalidDocument, InvalidRequest
from services.common.moment import OPEN_START, format_instant, now

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(collection: str) -> str:
    """Raises InvalidRequest for a name that could not be a collection's."""
    if not _NAME.fullmatch(collection):
        raise InvalidRequest(
            f"collection {collection[:40]!r}: use 1 to 128 letters, digits, dots, dashes and underscores"
        )
    return collection


class Ledger:
    """The record times of one commit. Creates the collection where there is none.

    `history_job` names the job that may bring record times of its own, and only if it also creates the collection.
    """

    def __init__(self, tx: Connection, tenant: str, collection: str, history_job: str = "") -> None:
        self._tx, self._history_job = tx, history_job
        self._here = (collections.c.tenant == tenant) & (collections.c.collection == collection)
        row = self._locked() or self._created(tenant, check_name(collection))
        if history_job and row.history_job != history_job:
            raise Conflict(f"collection {collection!r} exists: a history can only be imported into a new collection")
        self.last: int = row.recorded_at

    def _locked(self) -> Row[Any] | None:
        """The collection's row, held against every other commit until this one ends."""
        return self._tx.execute(select(collections).where(self._here).with_for_update()).one_or_none()

    def _created(self, tenant: str, collection: str) -> Row[Any]:
        """A new collection's row; of two commits that create it, the second waits and goes on with the first's."""
        clock = now()
        self._tx.execute(
            insert_new(self._tx, collections).values(
                tenant=tenant,
                collection=collection,
                created_at=clock,
                recorded_at=OPEN_START if self._history_job else clock,
                history_job=self._history_job,
            )
        )
        row = self._locked()
        assert row is not None
        return row

    def next(self, wanted: int | None = None) -> int:
        """The record time a change would get; `wanted` only for the history job, sorted and not in the future."""
        clock = now()
        if wanted is not None:
            if not self._history_job:
                raise InvalidDocument("recorded_at is only allowed when a history is imported (--history)")
            if wanted > clock:
                raise InvalidDocument(f"recorded_at {format_instant(wanted)} lies in the future")
            if wanted < self.last - _SAME_INSTANT:
                raise InvalidDocument(
                    f"recorded_at {format_instant(wanted)} comes after {format_instant(self.last)}: sort the history"
                )
            clock = wanted
        return max(clock, self.last + 1)

    def give(self, recorded: int) -> None:
        """Give out a record time for good, now that something is recorded at it."""
        self.last = recorded

    def close(self) -> int:
        """Write the newest record time back; the commit makes it visible."""
        self._tx.execute(update(collections).where(self._here).values(recorded_at=self.last))
        return self.last


_SAME_INSTANT = 1_000_000
"""Rows of one instant are told apart by microseconds; that many of them may share it."""
