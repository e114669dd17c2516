"""Directories of Parquet files that only grow, each file written once and durable before it is seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from services.common.nodes.scope import Stretch

_MOST_FILES = 64
_SMALL_BYTES = 16 * 1024 * 1024


def sync_directory(directory: Path) -> None:
    """Make what was created or renamed in the directory survive a crash."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ParquetDirectory:
    """One dataset. A row may lie in two files after a crash; what reads it must not mind."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self._directory = directory
        self._schema = schema
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(".*.tmp"):
            left.unlink()

    def empty(self) -> bool:
        return not self._files()

    def read(self) -> pa.Table:
        tables = [pq.read_table(path, schema=self._schema) for path in self._files()]
        return pa.concat_tables([self._schema.empty_table(), *tables])

    def write(self, stretch: Stretch, table: pa.Table) -> None:
        """Add the rows of a stretch durably; the same stretch again replaces its file."""
        if table.num_rows:
            name = f"{stretch.tenant}\x1f{stretch.collection}\x1f{stretch.end}"
            self._put(hashlib.sha256(name.encode()).hexdigest()[:32], table)

    def compact(self) -> None:
        """Replace many small files by one, the new one durable before the old ones go."""
        small = [path for path in self._files() if path.stat().st_size < _SMALL_BYTES]
        if len(small) < _MOST_FILES:
            return
        merged = pa.concat_tables([pq.read_table(path, schema=self._schema) for path in small])
        digest = hashlib.sha256("".join(path.stem for path in small).encode()).hexdigest()[:32]
        self._put(f"merged-{digest}", merged)
        for path in small:
            path.unlink()
        sync_directory(self._directory)

    def remove(self, unwanted: Callable[[pa.Table], npt.NDArray[np.bool_]]) -> int:
        """Write every file that holds unwanted rows anew without them; returns how many there were."""
        removed = 0
        for path in self._files():
            table = pq.read_table(path, schema=self._schema)
            found = unwanted(table)
            if not found.any():
                continue
            removed += int(found.sum())
            kept = table.filter(pa.array(~found))
            if kept.num_rows:
                self._put(path.stem, kept)
            else:
                path.unlink()
                sync_directory(self._directory)
        return removed

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.parquet"))

    def _put(self, name: str, table: pa.Table) -> None:
        unseen = self._directory / f".{name}.tmp"
        with unseen.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unseen.replace(self._directory / f"{name}.parquet")
        sync_directory(self._directory)
