"""Vector files: Parquet, one immutable file per batch, vectors by item id.

A file counts only once a catalog transaction names it; whatever else lies in the directory is an orphan.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from services.common.errors import Unavailable

Vectors = npt.NDArray[np.float32]


class VectorFiles:
    """The vector files of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, file_id: str) -> Path:
        return self._directory / f"{file_id}.parquet"

    def write(self, file_id: str, item_ids: Sequence[str], vectors: Vectors) -> None:
        """Write a file durably; vectors has shape (len(item_ids), dimensions)."""
        width = vectors.shape[1]
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        table = pa.table(
            {"item_id": pa.array(item_ids, pa.string()), "vector": pa.FixedSizeListArray.from_arrays(flat, width)}
        )
        self._directory.mkdir(parents=True, exist_ok=True)
        partial = self.path(file_id).with_suffix(".partial")
        with partial.open("wb") as sink:
            pq.write_table(table, sink, compression="zstd")
            sink.flush()
            os.fsync(sink.fileno())
        partial.replace(self.path(file_id))

    def remove(self, file_id: str) -> None:
        """Remove a file, if it is there."""
        self.path(file_id).unlink(missing_ok=True)

    def exists(self, file_id: str) -> bool:
        return self.path(file_id).exists()

    def settled(self, seconds: float) -> list[str]:
        """The files that were written longer ago than that."""
        before = time.time() - seconds
        return [path.stem for path in self._directory.glob("*.parquet") if path.stat().st_mtime < before]

    def read(self, file_id: str) -> dict[str, Vectors]:
        """Every vector of a file by item id, each of shape (dimensions,). Raises Unavailable where it has just gone."""
        try:
            table = pq.read_table(self.path(file_id), memory_map=True)
        except FileNotFoundError:
            raise Unavailable(
                f"vector file {file_id} is gone; if an erasure has replaced it, trying again helps"
            ) from None
        column = table.column("vector").combine_chunks()
        matrix = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        return dict(zip(table.column("item_id").to_pylist(), matrix, strict=True))

    def gather(self, items: Mapping[str, str], dimensions: int) -> Iterator[tuple[str, Vectors]]:
        """The vectors of items given as item id → file id, file by file."""
        by_file: dict[str, list[str]] = {}
        for item, file_id in items.items():
            by_file.setdefault(file_id, []).append(item)
        for file_id, wanted in by_file.items():
            found = self.read(file_id)
            for item in wanted:
                vector = found[item]
                if vector.shape != (dimensions,):
                    raise ValueError(f"vector file {file_id}: {item} has shape {vector.shape}, not ({dimensions},)")
                yield item, vector
