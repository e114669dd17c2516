"""When a collection changed: the instants of valid time and of record time at which something in it began or ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, union_all

from services.catalog.reading import collection
from services.catalog.tables import fact_extents, questions, version_extents
from services.common.moment import OPEN_END, OPEN_START

MOST = 500
"""Most ticks of one axis: about one for every other pixel of a wide screen."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`changes` ends of extents in [`first`, `at`], the last of them at `at`."""

    first: int
    at: int
    changes: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Ticks in order of time; where there are more instants than the most, neighbours share one."""

    valid: Sequence[Tick]
    recorded: Sequence[Tick]


def changes(tx: Connection, tenant: str, name: str, known_at: int | None = None, most: int = MOST) -> Changes:
    """When documents and facts of the collection changed.

    Valid time is shown as it was on record at `known_at`, by default in the newest record; record time is shown whole.
    Raises CollectionNotFound.
    """
    collection(tx, tenant, name)
    on_record = OPEN_END - 1 if known_at is None else known_at
    valid = _instants(tenant, name, ("valid_from", "valid_to"), on_record)
    recorded = _instants(tenant, name, ("recorded_from", "recorded_to"), None)
    return Changes(_ticks(tx, valid, most), _ticks(tx, recorded, most))


def _instants(tenant: str, name: str, edges: Sequence[str], on_record: int | None) -> Select[Any]:
    """Every edge that is an instant of the collection's history, as the column `at`, with repetitions."""
    parts = []
    for table in (version_extents, fact_extents):
        here = _of_version if table is version_extents else _of_fact
        for edge in edges:
            query = select(table.c[edge].label("at")).where(
                here(tenant, name), table.c[edge] > OPEN_START, table.c[edge] < OPEN_END
            )
            parts.append(query if on_record is None else query.where(_on_record(table, on_record)))
    return select(union_all(*parts).subquery())


def _of_version(tenant: str, name: str) -> ColumnElement[bool]:
    return and_(version_extents.c.tenant == tenant, version_extents.c.collection == name)


def _of_fact(tenant: str, name: str) -> ColumnElement[bool]:
    return and_(
        questions.c.tenant == tenant,
        questions.c.collection == name,
        questions.c.question_key == fact_extents.c.question_key,
    )


def _on_record(table: Any, known_at: int) -> ColumnElement[bool]:
    return and_(table.c.recorded_from <= known_at, table.c.recorded_to > known_at)


def _ticks(tx: Connection, instants: Select[Any], most: int) -> list[Tick]:
    at = instants.subquery().c.at
    distinct, first, last = tx.execute(select(func.count(at.distinct()), func.min(at), func.max(at))).one()
    if not distinct:
        return []
    width = 1 if distinct <= most else (last - first) // most + 1
    cell = (at - first) // width
    query = select(func.min(at), func.max(at), func.count()).group_by(cell).order_by(cell)
    return [Tick(*row) for row in tx.execute(query)]
