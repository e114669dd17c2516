"""What an answer's validity ends at: the neighbouring boundaries in valid time, and the collection's erasures."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from services.catalog.erasing import DONE
from services.catalog.reading import collection as collection_row
from services.catalog.tables import erasures, statements
from services.common.moment import OPEN_END, OPEN_START, Moment, Span


@dataclass(frozen=True, slots=True)
class Standing:
    """How a collection stands at a moment.

    span: around `as_of`, within which no version or fact on record at `known_at` begins or ends. newest: its newest
    record time. erasures: how many were ever asked for.
    """

    span: Span
    newest: int
    erasures: int


def standing(tx: Connection, tenant: str, collection: str, moment: Moment) -> Standing | None:
    """None while something of the collection is erased: what can be seen then changes without a new record.

    Raises CollectionNotFound.
    """
    newest = collection_row(tx, tenant, collection).recorded_at
    count = erased(tx, tenant, collection)
    return None if count is None else Standing(span_at(tx, tenant, collection, moment), newest, count)


def erased(tx: Connection, tenant: str, collection: str) -> int | None:
    """How many erasures were ever asked for in the collection; None while one of them is not done."""
    query = select(func.count(), func.count().filter(erasures.c.state != DONE))
    asked, busy = tx.execute(query.where(erasures.c.tenant == tenant, erasures.c.collection == collection)).one()
    return None if busy else int(asked)


def span_at(tx: Connection, tenant: str, collection: str, moment: Moment) -> Span:
    """The span between the events stated by `known_at` next to `as_of`.

    Every boundary of a version and of a fact is an event of its statements, and so are those corrected away by then,
    which cut the span finer than need be.
    """
    event = statements.c.event
    here = (statements.c.tenant == tenant, statements.c.collection == collection)
    query = select(event).where(*here, statements.c.created <= moment.known_at).limit(1)
    start = tx.execute(query.where(event <= moment.as_of).order_by(event.desc())).scalar()
    end = tx.execute(query.where(event > moment.as_of).order_by(event)).scalar()
    return Span(OPEN_START if start is None else int(start), OPEN_END if end is None else int(end))
