"""Inserts that mind what is there already, in the dialect at hand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(tx: Connection, table: Table) -> Insert:
    """An insert that leaves a row that is there already as it is."""
    return _insert_new(tx.dialect.name, table)


def upsert(tx: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Write the row, over the one with the same primary key if there is one."""
    keys = [column.name for column in table.primary_key]
    changed = {name: value for name, value in row.items() if name not in keys}
    tx.execute(_insert(tx.dialect.name, table).values(row).on_conflict_do_update(index_elements=keys, set_=changed))


@cache
def _insert_new(dialect: str, table: Table) -> Insert:
    return _insert(dialect, table).on_conflict_do_nothing()


def _insert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
