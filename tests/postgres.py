"""PostgreSQL for tests: one server a session, on a unix socket, and a fresh database wherever one is asked for."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from services.catalog.engine import Database
from services.catalog.tables import metadata
from tests.support import eventually, missing

_DEBIAN = Path("/usr/lib/postgresql")
_USER = "almanac"
# The tests' data may be lost with the machine; English order shows whatever relies on the order of bytes.
_INITDB = ("-A", "trust", "-U", _USER, "-N", "-E", "UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=en-US")
_SERVER = ("fsync=off", "full_page_writes=off", "listen_addresses=", "shared_buffers=64MB", "max_connections=60")


class Postgres:
    """A running server."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._admin = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{_USER}@/{database}?host={self._directory}"

    def create(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with self._admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return self.url(name)

    def files(self) -> Iterator[Path]:
        """What the server's tables and indexes lie in, written down to the last page."""
        with self._admin.connect() as connection:
            connection.execute(text("CHECKPOINT"))
        return (path for path in (self._directory / "data" / "base").rglob("*") if path.is_file())

    def answers(self) -> bool:
        try:
            self._admin.connect().close()
        except Exception:
            return False
        return True

    def close(self) -> None:
        self._admin.dispose()


def program(name: str) -> str | None:
    newest = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]), reverse=True)
    return str(newest[0]) if newest else shutil.which(name)


def unprivileged() -> dict[str, object]:
    """The server refuses to run as root: then it runs as somebody else."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL, as Debian packs it; its absence is a failure in CI only."""
    initdb, server = program("initdb"), program("postgres")
    if initdb is None or server is None:
        missing("PostgreSQL's server (Debian: apt-get install postgresql)")
    who = unprivileged()
    with tempfile.TemporaryDirectory(prefix="almanac-pg-") as made:
        directory = Path(made)
        if who:
            os.chown(directory, who["user"], who["group"])  # type: ignore[arg-type]
        data = directory / "data"
        quiet = {"stdout": subprocess.DEVNULL, "cwd": directory, **who}
        subprocess.run([initdb, "-D", data, *_INITDB], check=True, timeout=60, **quiet)  # type: ignore[call-overload]
        command = [server, "-D", data, "-k", directory, *(part for one in _SERVER for part in ("-c", one))]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log, **quiet)  # type: ignore[call-overload]
        try:
            yield from _running(directory, process)
        finally:
            process.send_signal(signal.SIGQUIT)  # at once; nothing of it is kept
            process.wait(30)


def _running(directory: Path, process: subprocess.Popen[bytes]) -> Iterator[Postgres]:
    running = Postgres(directory)
    try:
        eventually(lambda: process.poll() is not None or running.answers(), 30, "PostgreSQL did not start")
        assert process.poll() is None, (directory / "log").read_text()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def catalog_in_postgres(postgres: Postgres) -> str:
    """The URL of the one database that tests of the catalog share, one after the other."""
    url = postgres.create()
    Database(url).close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a catalog that holds nothing, once on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalog.db'}"
    url: str = request.getfixturevalue("catalog_in_postgres")
    # Emptied rather than made anew, which takes a hundred times as long.
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            connection.execute(table.delete())
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any schema, once on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalog.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create()
