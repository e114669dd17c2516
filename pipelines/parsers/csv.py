"""CSV whose first line names the fields of a document or a fact."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.parsers.base import Limits, Unreadable, size
from pipelines.parsers.encoding import decode
from pipelines.parsers.jsonl import Rows


def rows(path: Path, limits: Limits) -> Rows:
    """Every row under the line it ends on; an empty cell is a field not given. Raises Unreadable."""
    with path.open("rb") as stream:
        lines = _Lines(stream, limits.text_bytes)
        csv.field_size_limit(limits.text_bytes)
        reader = csv.reader(lines, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            _check(header)
            for cells in reader:
                if any(cells):
                    yield lines.number, _row(header, cells)
        except csv.Error as error:
            raise Unreadable(f"not valid CSV: {error}") from None


def count(path: Path, limits: Limits) -> int:
    """How many rows there are."""
    return sum(1 for _ in rows(path, limits))


def _row(header: list[str], cells: list[str]) -> Any:
    if len(cells) != len(header):
        return Unreadable(f"{len(cells)} cells, and the header names {len(header)}")
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell}


def _check(header: list[str]) -> None:
    if not any(header):
        raise Unreadable("the first line must name the fields")
    if len(set(header)) < len(header):
        raise Unreadable("the first line names a field twice")


class _Lines:
    """The lines of a file as text, each within a limit, counted."""

    def __init__(self, stream: io.BufferedReader, most: int) -> None:
        self._stream, self._most = stream, most
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._stream.readline(self._most + 1):
            self.number += 1
            if len(line) > self._most:
                raise Unreadable(f"line {self.number} is longer than {size(self._most)}")
            yield decode(line)
