"""Open the catalog's database, and its two kinds of transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

from services.catalog.migrations import schema

Result = TypeVar("Result")

_BUSY_MS = 20_000


class Database:
    """A catalog database. Opening it creates or upgrades its schema. Raises Conflict for one that it cannot use."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        try:
            if not schema.is_newest(self.engine):
                with self.write() as tx:
                    schema.upgrade(tx)
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot."""
        with self.engine.connect() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """All or nothing; SQLite has one writer at a time, which waits its turn at the start."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    async def reading(self, work: Callable[[Connection], Result]) -> Result:
        """What the work finds in one snapshot, off the event loop."""

        def within() -> Result:
            with self.read() as tx:
                return work(tx)

        return await asyncio.to_thread(within)

    async def writing(self, work: Callable[[Connection], Result]) -> Result:
        """What the work gives, in one short transaction off the event loop."""

        def within() -> Result:
            with self.write() as tx:
                return work(tx)

        return await asyncio.to_thread(within)

    def close(self) -> None:
        self.engine.dispose()


def planned(url: str) -> str:
    """The SQL that opening the database would run, without running or making anything. Raises Conflict."""
    named = make_url(url)
    if named.get_backend_name() == "sqlite" and not Path(named.database or "").is_file():
        return schema.planned("sqlite", None)
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            return schema.planned(engine.dialect.name, schema.current(connection))
    finally:
        engine.dispose()


def open_engine(url: str) -> Engine:
    """Connections as the catalog needs them. Touches nothing but the folder of a SQLite file."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    database = make_url(url).database
    if database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: Any) -> None:
    # The driver's own transaction control starts a write lazily, which can deadlock two writers.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    _log_ahead(connection)
    for pragma in ("synchronous=FULL", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _log_ahead(connection: Any) -> None:
    """Switch to the write-ahead log. It needs the file for itself, and SQLite does not wait for that by itself."""
    until = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
