"""Restore a backup into an empty home. The catalog comes last, in one transaction; before it there is nothing to open.

Index and features are no part of a backup: the worker builds them from catalog and vector files when it starts.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from pipelines.erase import LOG, replay, tombstones
from services.admin.backup import Say, merged, write_log
from services.admin.backup_archive import Manifest, Reader, opened
from services.admin.failures import Failed
from services.admin.settings import AdminSettings
from services.admin.state import Places, locked
from services.catalog.backup import (
    Tombstone,
    begin,
    cancel_before,
    complete,
    exported,
    import_table,
    known_erasures,
    move_uploads,
)
from services.catalog.engine import open_engine
from services.catalog.places import Place, ago, open_place

_DERIVED = ("index", "features")


@dataclass
class Restored:
    """What a restore did: the backup's manifest, the erasures asked for again, and the jobs cancelled for them."""

    manifest: Manifest
    erased: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)


def restore(own: AdminSettings, source: Path, log: Path | None, say: Say) -> Restored:
    """Verify the backup, then restore it. `log`: tombstones written since.

    Raises Failed for a damaged backup, a home or catalog that is not empty, or one whose stack runs; Conflict for the
    schema of a later Almanac. Whatever fails leaves the home as it was.
    """
    if log is not None and not log.is_file():
        raise Failed(f"{log}: no such file")
    with opened(source) as backup, locked(Places(own.home), "(a restore)"):
        place = open_place(own.vectors_dir)
        _require_empty(own, place)
        backup.verify(say)
        with _undone_on_failure(own, place, backup):
            return _Restore(own, backup, place, say).run(log)


@dataclass(frozen=True)
class _Restore:
    own: AdminSettings
    backup: Reader
    place: Place
    say: Say

    def run(self, log: Path | None) -> Restored:
        self._files()
        rows = self._tombstones(log)
        done = Restored(self.backup.manifest)
        with _transaction(self.own.catalog_url) as tx:
            self._tables(tx)
            known = {row["erasure_id"] for row in known_erasures(tx)}
            for row in rows:
                if row["erasure_id"] not in known:
                    where = (row["tenant"], row["collection"], row["doc_id"], row["erased_at"])
                    done.cancelled += cancel_before(tx, *where)
            done.erased += replay(tx, self.own.home / LOG)
        for job_id in done.cancelled:
            shutil.rmtree(self.own.uploads_dir / job_id, ignore_errors=True)
        return done

    def _files(self) -> None:
        vectors, uploads = self.backup.names("vectors"), self.backup.names("uploads")
        for number, name in enumerate(vectors, start=1):
            with self.backup.open(name) as stream:
                self.place.put(Path(name).name, pa.py_buffer(stream.read()))
            self.say("vector files", number, len(vectors))
        for name in uploads:
            self.backup.copy(name, self.own.uploads_dir / name.removeprefix("uploads/"))

    def _tombstones(self, log: Path | None) -> list[Tombstone]:
        """All there are: the backup's, those given, and those that were left in the home."""
        target = self.own.home / LOG
        fresh = target.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        self.backup.copy(LOG, fresh)
        rows = merged(*(tombstones(path) for path in (fresh, target, log) if path is not None))
        write_log(fresh, rows)
        fresh.replace(target)
        return rows

    def _tables(self, tx: Connection) -> None:
        begin(tx, str(self.backup.manifest["schema"]))
        held = self.backup.manifest["tables"]
        tables = [table for table in exported() if table.name in held]
        for number, table in enumerate(tables, start=1):
            with self.backup.open(f"catalog/{table.name}.jsonl.zst") as stream:
                rows = import_table(tx, table, stream)
            if rows != held[table.name]:
                raise Failed(f"the backup's table {table.name} has {rows} rows, not the {held[table.name]} it names")
            self.say("tables", number, len(tables))
        complete(tx)
        move_uploads(tx, self.own.uploads_dir)


def _require_empty(own: AdminSettings, place: Place) -> None:
    """But for a log of erasures, the home's own key and what a stack leaves in `run` and `logs`."""
    filled = [str(path) for path in (own.uploads_dir, *(own.home / name for name in _DERIVED)) if _holds_files(path)]
    filled += [own.vectors_dir] if place.names(ago(-1)) else []
    database = _sqlite_file(own.catalog_url)
    filled += [str(database)] if database is not None and database.exists() else []
    if filled:
        raise Failed(f"not empty: {', '.join(filled)}; restore into an empty home (--home), or move these away first")


def _holds_files(path: Path) -> bool:
    return path.exists() and any(found.is_file() for found in path.rglob("*"))


def _sqlite_file(url: str) -> Path | None:
    named = make_url(url)
    return Path(named.database or "") if named.get_backend_name() == "sqlite" else None


@contextmanager
def _transaction(url: str) -> Iterator[Connection]:
    engine = open_engine(url)
    try:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _undone_on_failure(own: AdminSettings, place: Place, backup: Reader) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for name in backup.names("vectors"):
            place.remove(Path(name).name)
        for name in backup.names("uploads"):
            shutil.rmtree((own.uploads_dir / name.removeprefix("uploads/")).parent, ignore_errors=True)
        database = _sqlite_file(own.catalog_url)
        for suffix in ("", "-wal", "-shm") if database is not None else ():
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        raise
