"""Rid a database's files of what was deleted from it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from sqlalchemy import Engine, text

from services.common.errors import Unavailable

_TABLES = (
    "versions",
    "version_extents",
    "passages",
    "occurrences",
    "passage_extents",
    "statements",
    "vectors",
    "answers",
    "jobs",
)


def purge(engine: Engine) -> None:
    """Write the database anew, so that neither free pages nor its log hold what was deleted. Writers wait meanwhile.

    PostgreSQL: the planner's samples are taken anew as well; its write-ahead log and archives keep the old rows until
    they are recycled. Raises Unavailable where the database is too busy.
    """
    if engine.dialect.name == "sqlite":
        with closing(engine.raw_connection()) as connection:
            _purge_sqlite(connection.cursor())
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in _TABLES:
            connection.execute(text(f"VACUUM (FULL, ANALYZE) {table}"))
        connection.execute(text("CHECKPOINT"))


def _purge_sqlite(cursor: Any) -> None:
    try:
        cursor.execute("VACUUM")
        busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        raise Unavailable(f"the catalog's database cannot be written anew just now: {error}") from error
    if busy:
        raise Unavailable("the catalog's log is still read by somebody and cannot be emptied yet")
