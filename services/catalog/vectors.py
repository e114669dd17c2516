"""Vector files: Parquet, one immutable file per batch, vectors by item id.

A file counts only once a catalog transaction names it; whatever else lies there is an orphan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from services.catalog.places import ago, open_place
from services.common.errors import Unavailable

Vectors = npt.NDArray[np.float32]
_SUFFIX = ".parquet"


class VectorFiles:
    """The vector files of one place: a local directory, or the URL of a prefix in object storage."""

    def __init__(self, location: Path | str) -> None:
        self._place = open_place(location)

    def write(self, file_id: str, item_ids: Sequence[str], vectors: Vectors) -> None:
        """Write a file durably; vectors has shape (len(item_ids), dimensions)."""
        width = vectors.shape[1]
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        table = pa.table(
            {"item_id": pa.array(item_ids, pa.string()), "vector": pa.FixedSizeListArray.from_arrays(flat, width)}
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self._place.put(_name(file_id), sink.getvalue())

    def remove(self, file_id: str) -> None:
        """Remove a file, if it is there."""
        self._place.remove(_name(file_id))

    def exists(self, file_id: str) -> bool:
        return self._place.exists(_name(file_id))

    def settled(self, seconds: float) -> list[str]:
        """The files that were written longer ago than that."""
        return [name.removesuffix(_SUFFIX) for name in self._place.names(ago(seconds)) if name.endswith(_SUFFIX)]

    def remove_broken(self, seconds: float) -> int:
        """Remove what a writer that died longer ago than that left unfinished; returns how many files."""
        broken = [name for name in self._place.names(ago(seconds)) if not name.endswith(_SUFFIX)]
        for name in broken:
            self._place.remove(name)
        return len(broken)

    def read(self, file_id: str) -> dict[str, Vectors]:
        """Every vector of a file by item id, each of shape (dimensions,). Raises Unavailable where it has just gone."""
        try:
            table = pq.read_table(pa.BufferReader(self._place.get(_name(file_id))))
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


def _name(file_id: str) -> str:
    return f"{file_id}{_SUFFIX}"
