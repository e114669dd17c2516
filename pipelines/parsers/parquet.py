"""Parquet whose columns are the fields of a document or a fact. Runs in a worker process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pipelines.parsers.base import MIB, Limits, Unreadable, size

_DECODED_AT_ONCE = 32
_STRETCH_ROWS = 256
_STRETCH_BYTES = 4 * MIB

Stretch = tuple[list[dict[str, Any]], bool]
"""Some rows in order, and whether they were the last."""


def count(path: Path) -> int:
    """How many rows the file says it has."""
    return int(_open(path).metadata.num_rows)


class Reader:
    """Reads stretches of one file; asked for the one after the last it goes on where it stands."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self._limits = path, limits
        self.position = 0
        self._file = _open(path)
        self._rows = self._from(0)

    def stretch(self, start: int) -> Stretch:
        """The rows from number `start` on (from 0), as many as one message takes."""
        if start != self.position:
            self.position, self._rows = start, self._from(start)
        found: list[dict[str, Any]] = []
        length = 0
        while len(found) < _STRETCH_ROWS and length < _STRETCH_BYTES:
            row = next(self._rows, None)
            if row is None:
                return found, True
            length += self._weigh(row)
            found.append(row)
            self.position += 1
        return found, False

    def _weigh(self, row: Mapping[str, Any]) -> int:
        length = len(json.dumps(row, default=str))
        if length > 2 * self._limits.text_bytes:
            raise Unreadable(f"row {self.position + 1} is longer than {size(self._limits.text_bytes)}")
        return length

    def _from(self, start: int) -> Iterator[dict[str, Any]]:
        metadata = self._file.metadata
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if start < rows:
                yield from self._group(group, start)
            start = max(0, start - rows)

    def _group(self, group: int, start: int) -> Iterator[dict[str, Any]]:
        for batch in self._file.iter_batches(_DECODED_AT_ONCE, row_groups=[group], use_threads=False):
            if start < batch.num_rows:
                for row in batch.slice(start).to_pylist():
                    yield {name: _plain(name, value) for name, value in row.items() if value is not None}
            start = max(0, start - batch.num_rows)


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise Unreadable(f"not valid Parquet: {' '.join(str(error).split())[:200]}") from None


def _plain(name: str, value: Any) -> Any:
    """A cell as JSON has it; times as ISO 8601, a map as an object."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    if name == "metadata" and isinstance(value, list):
        return dict(value)
    if isinstance(value, bytes):
        raise Unreadable(f"{name}: a column of text is needed, not of bytes")
    return value
