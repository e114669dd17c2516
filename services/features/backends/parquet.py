"""Directories of Parquet files that only grow, each file written once and durable before it is seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.common.nodes.scope import Stretch
from services.features.backends.rows import conform

ROWS = 262_144
"""Rows of a file that are held at once while it is written anew."""


def sync_directory(directory: Path) -> None:
    """Make what was created or renamed in the directory survive a crash."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stretch_name(stretch: Stretch, part: str) -> str:
    """The name of a part of a stretch's rows; the same stretch again has the same."""
    return digest(stretch.tenant, stretch.collection, str(stretch.end), part)


def digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


class ParquetDirectory:
    """One dataset. A row may lie in two files after a crash; what reads it must not mind."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self.directory = directory
        self.schema = schema
        directory.mkdir(parents=True, exist_ok=True)

    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*.parquet"))

    def read(self, path: Path) -> pa.Table:
        return pq.read_table(path, schema=self.schema, partitioning=None)

    def conform(self) -> None:
        """Write anew, in the view's columns, the files that have others; Feast reads only files that are alike."""
        for path in self.files():
            with pq.ParquetFile(path) as file:
                if file.schema_arrow.equals(self.schema):
                    continue
                groups = (conform(pa.Table.from_batches([batch]), self.schema) for batch in file.iter_batches(ROWS))
                staged = self.stage(path.stem, groups)
            self.show([staged] if staged else [])

    def stage(self, name: str, tables: Iterable[pa.Table]) -> Path | None:
        """Write a file durably that is not seen before `show`; None where there are no rows."""
        unseen, writer = self.directory / f".{name}.tmp", None
        for table in tables:
            if table.num_rows:
                writer = writer or pq.ParquetWriter(unseen, self.schema, compression="zstd")
                writer.write_table(table)
        if writer is None:
            return None
        writer.close()
        with unseen.open("rb") as file:
            os.fsync(file.fileno())
        return unseen

    def place(self, staged: Path) -> Path:
        """Where a staged file is to be seen."""
        return staged.with_name(f"{staged.name[1 : -len('.tmp')]}.parquet")

    def show(self, staged: Sequence[Path]) -> list[Path]:
        shown = [path.replace(self.place(path)) for path in staged]
        if shown:
            sync_directory(self.directory)
        return shown

    def remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                path.unlink()
        sync_directory(self.directory)
