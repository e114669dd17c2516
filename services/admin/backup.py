"""Make a backup of a home while its stack runs: all that is truth, as of one transaction of the catalog.

The tables are read in one snapshot. What they name outside the catalog never changes under its name, but may go:
uploads when their job is done, vector files when an erasure has rewritten them. Then the snapshot is taken anew.
"""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
from sqlalchemy import Connection

from pipelines.erase import LOG, tombstones
from services.admin.backup_archive import Manifest, Writer
from services.admin.failures import Failed
from services.admin.settings import AdminSettings
from services.catalog.backup import (
    Tombstone,
    export_table,
    exported,
    file_ids,
    known_erasures,
    unfinished_uploads,
    upload_name,
)
from services.catalog.engine import Database, planned
from services.catalog.migrations import schema
from services.catalog.places import open_place
from services.catalog.state import all_generations, known_collections
from services.common.moment import format_instant, now

Say = Callable[[str, int, int], None]
"""Told as work goes on: of what, how many are done, and how many there are."""

_TRIES, _ROUNDS = 5, 20


class _Gone(Exception):
    """What the snapshot names was removed meanwhile."""


@dataclass
class _Staged:
    """Uploads copied so far, by where they lie."""

    directory: Path
    copies: dict[Path, Path] = field(default_factory=dict)

    def hold(self, wanted: list[Path], since: float) -> bool:
        """Copy what is not held yet. False where a file went or was changed after `since`, in seconds of the epoch."""
        return all(path in self.copies or self._copied(path, since) for path in wanted)

    def _copied(self, path: Path, since: float) -> bool:
        copy = self.directory / str(len(self.copies))
        try:
            shutil.copyfile(path, copy)
            if path.stat().st_mtime > since:
                return False
        except FileNotFoundError:
            return False
        self.copies[path] = copy
        return True


def make(own: AdminSettings, target: Path, say: Say) -> Manifest:
    """Write the backup and return its manifest.

    Raises Failed without a catalog of this schema, where there is no room, or where what it needs keeps going.
    """
    _require_schema(own)
    catalog = Database(own.catalog_url)
    try:
        for _ in range(_TRIES):
            writer = Writer(target)
            try:
                return _Backup(own, catalog, writer, say).run()
            except _Gone:
                writer.give_up()
            except BaseException:
                writer.give_up()
                raise
        raise Failed("documents are being erased; make the backup again when that is done")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise Failed(f"the backup cannot be written: {error}") from error
        raise Failed(f"no room is left for the backup beside {target}; what was written of it is removed") from error
    finally:
        catalog.close()


def _require_schema(own: AdminSettings) -> None:
    """A backup makes no catalog and migrates none, for the stack that runs may be an older one."""
    if planned(own.catalog_url):
        raise Failed(
            f"there is no catalog of schema {schema.revisions()[-1]} to back up; set ALMANAC_HOME, or back up an older "
            "one with the Almanac that made it"
        )


@dataclass(frozen=True)
class _Backup:
    own: AdminSettings
    catalog: Database
    writer: Writer
    say: Say

    def run(self) -> Manifest:
        manifest, vectors = self._tables()
        self._vectors(vectors)
        self._tombstones()
        self.writer.finish(manifest)
        return manifest

    def _tables(self) -> tuple[Manifest, list[str]]:
        staged = _Staged(self.writer.work / "staged")
        staged.directory.mkdir()
        for _ in range(_ROUNDS):
            since = time.time()
            with self.catalog.read() as tx:
                wanted = unfinished_uploads(tx)
                if staged.hold(wanted, since):
                    found = self._export(tx), file_ids(tx)
                    break
        else:
            raise Failed("jobs keep ending before their uploads are copied; make the backup again in a quieter minute")
        for path in wanted:
            self.writer.add(f"uploads/{upload_name(path)}", staged.copies[path].rename)
        shutil.rmtree(staged.directory)
        return found

    def _export(self, tx: Connection) -> Manifest:
        rows = {}
        tables = exported()
        for number, table in enumerate(tables, start=1):
            name = f"catalog/{table.name}.jsonl.zst"
            rows[table.name] = self.writer.add(name, partial(export_table, tx, table))
            self.say("tables", number, len(tables))
        return {
            "almanac": version("almanac"),
            "made_at": format_instant(now()),
            "schema": schema.current(tx),
            "tables": rows,
            "recorded_at": {f"{tenant}/{name}": recorded for tenant, name, recorded in known_collections(tx)},
            "encoders": sorted({generation.encoder for generation in all_generations(tx)}),
        }

    def _vectors(self, ids: list[str]) -> None:
        place = open_place(self.own.vectors_dir)
        for number, file_id in enumerate(ids, start=1):
            name = f"{file_id}.parquet"
            try:
                content = place.get(name)
            except FileNotFoundError:
                raise _Gone(name) from None
            self.writer.add(f"vectors/{name}", partial(_write, content))
            self.say("vector files", number, len(ids))

    def _tombstones(self) -> None:
        """Last, so that what was erased meanwhile is erased again. The log may lie in the home of another machine."""
        with self.catalog.read() as tx:
            rows = merged(tombstones(self.own.home / LOG), known_erasures(tx))
        self.writer.add(LOG, lambda path: write_log(path, rows))


def _write(content: pa.Buffer, path: Path) -> None:
    path.write_bytes(content)


def merged(*logs: Iterable[Tombstone]) -> list[Tombstone]:
    """Each erasure once."""
    return list({row["erasure_id"]: row for log in logs for row in log}.values())


def write_log(path: Path, rows: Iterable[Tombstone]) -> None:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
