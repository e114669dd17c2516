"""The catalog's tables as files: JSON Lines, the same from either database, so that one restores into the other.

What a column type means is SQLAlchemy's matter on both sides. JSON cannot hold bytes: they are written as base64.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from sqlalchemy import Connection, Integer, LargeBinary, Table, func, insert, inspect, select, text, update

from services.catalog import erasing
from services.catalog import jobs as working
from services.catalog.migrations import schema
from services.catalog.tables import erasures, jobs, metadata, vector_files, watermarks
from services.common.errors import Conflict

Tombstone = dict[str, Any]
"""erasure_id, tenant, collection, doc_id, erased_at."""

_BATCH = 1_000
_HARMLESS = ("facts", erasing.ERASE)
DERIVED = frozenset({watermarks.name})
"""What is said of index and features, which are no part of a backup: whoever reads the record begins anew."""


def exported() -> list[Table]:
    """The tables that a backup holds."""
    return [table for table in metadata.sorted_tables if table.name not in DERIVED]


def export_table(tx: Connection, table: Table, path: Path) -> int:
    """Write all rows that the transaction sees, compressed by zstd; returns how many."""
    binary = _binary(table)
    rows = 0
    with pa.output_stream(str(path), compression="zstd") as sink:
        for row in tx.execute(select(table).execution_options(yield_per=_BATCH)).mappings():
            sink.write(json.dumps(_plain(dict(row), binary)).encode() + b"\n")
            rows += 1
    return rows


def import_table(tx: Connection, table: Table, source: BinaryIO) -> int:
    """Insert all rows of a file that `export_table` wrote; returns how many. Columns that it lacks stay empty."""
    binary, rows = _binary(table), 0
    with pa.CompressedInputStream(pa.PythonFile(source, "r"), "zstd") as stream:
        lines = (json.loads(line) for line in io.BufferedReader(stream))
        while batch := [_restored(row, binary) for row in islice(lines, _BATCH)]:
            tx.execute(insert(table), batch)
            rows += len(batch)
    return rows


def begin(tx: Connection, revision: str) -> None:
    """Make the schema of a backup in an empty database. Raises Conflict where it is newer, or the database is not."""
    if revision not in schema.revisions():
        raise Conflict(
            f"the backup has schema {revision}, newer than this Almanac's {schema.revisions()[-1]}; upgrade Almanac"
        )
    found = schema.current(tx)
    if found is None:
        schema.upgrade(tx, revision)
        return
    filled = [name for name in _present(tx) if tx.execute(select(metadata.tables[name]).limit(1)).first() is not None]
    if filled:
        raise Conflict(f"the catalog is not empty (it has {', '.join(filled)}); restore into an empty one")
    if found != revision:
        raise Conflict(f"the catalog has schema {found} already, the backup {revision}; restore into a new database")


def complete(tx: Connection) -> None:
    """After the last table: numbering goes on after the highest, and the schema is brought up to the newest."""
    if tx.dialect.name == "postgresql":
        for name in _present(tx):
            _renumber(tx, metadata.tables[name])
    schema.upgrade(tx)


def file_ids(tx: Connection) -> list[str]:
    """The vector files that the transaction's snapshot names."""
    return sorted(tx.execute(select(vector_files.c.file_id)).scalars())


def unfinished_uploads(tx: Connection) -> list[Path]:
    """The files that jobs still have to take in."""
    requests = tx.execute(select(jobs.c.request).where(jobs.c.state.not_in(working.FINISHED))).scalars()
    return sorted({Path(file["path"]) for request in requests for file in request.get("files", ())})


def move_uploads(tx: Connection, directory: Path) -> None:
    """Let every job look for its upload there. The old place may be another home's, where nothing is to be deleted."""
    for job_id, request in tx.execute(select(jobs.c.job_id, jobs.c.request)).all():
        if files := request.get("files"):
            moved = [{**file, "path": str(directory / upload_name(Path(file["path"])))} for file in files]
            tx.execute(update(jobs).where(jobs.c.job_id == job_id).values(request={**request, "files": moved}))


def upload_name(path: Path) -> str:
    """What an upload's file is called below the directory of all uploads."""
    return f"{path.parent.name}/{path.name}"


def cancel_before(tx: Connection, tenant: str, collection: str, doc_id: str, erased_at: int) -> list[str]:
    """Cancel what might bring back a document that was erased then; returns the ids of the jobs.

    A job of before the erasure was done with when it began, so nothing may come of it after. A later one is in the way
    only of a document that is to be erased once more.
    """
    again = erasing.recorded_before(tx, tenant, collection, doc_id, erased_at)
    here = (jobs.c.tenant == tenant) & (jobs.c.collection == collection) & jobs.c.kind.not_in(_HARMLESS)
    mine = here if again else here & (jobs.c.created_at <= erased_at)
    query = select(jobs.c.job_id).where(jobs.c.state.not_in(working.FINISHED), mine | (jobs.c.kind == erasing.REBUILD))
    found = tx.execute(query).scalars().all()
    for job_id in found:
        working.finish(tx, job_id, working.CANCELLED, "its files may hold a document that was erased after the backup")
    return list(found)


def known_erasures(tx: Connection) -> list[Tombstone]:
    """Every erasure of the catalog, as its tombstone."""
    columns = erasures.c
    query = select(
        columns.erasure_id, columns.tenant, columns.collection, columns.doc_id, columns.created_at.label("erased_at")
    )
    return [dict(row) for row in tx.execute(query.order_by(columns.created_at)).mappings()]


def _present(tx: Connection) -> Sequence[str]:
    names = set(inspect(tx).get_table_names())
    return [table.name for table in metadata.sorted_tables if table.name in names]


def _renumber(tx: Connection, table: Table) -> None:
    [*keys] = table.primary_key
    if len(keys) == 1 and isinstance(keys[0].type, Integer):
        sequence = tx.execute(text("SELECT pg_get_serial_sequence(:t, :c)"), {"t": table.name, "c": keys[0].name})
        highest = tx.execute(select(func.max(keys[0]))).scalar()
        if highest is not None:
            tx.execute(select(func.setval(sequence.scalar_one(), highest)))


def _binary(table: Table) -> frozenset[str]:
    return frozenset(column.name for column in table.columns if isinstance(column.type, LargeBinary))


def _plain(row: dict[str, Any], binary: frozenset[str]) -> dict[str, Any]:
    for name in binary:
        if row[name] is not None:
            row[name] = base64.b64encode(row[name]).decode()
    return row


def _restored(row: dict[str, Any], binary: frozenset[str]) -> dict[str, Any]:
    for name in binary & row.keys():
        if row[name] is not None:
            row[name] = base64.b64decode(row[name])
    return row
