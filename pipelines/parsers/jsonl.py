"""JSON Lines, gzipped or not: a row a line, one broken line never in the way of the rest."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.parsers.base import Limits, Unreadable, size
from pipelines.parsers.encoding import decode

Rows = Iterator[tuple[int, Any]]
"""(line, the row's fields or the Unreadable that says why there are none)."""


def rows(path: Path, zipped: bool, limits: Limits) -> Rows:
    """Every line that is not blank. Raises OSError, EOFError or zlib.error where the file breaks off."""
    for number, line in enumerate(_lines(path, zipped, limits.text_bytes), start=1):
        if line.strip():
            yield number, _row(line, limits.text_bytes)


def count(path: Path, zipped: bool, limits: Limits) -> int:
    """How many rows there are, without reading what is in them."""
    return sum(1 for line in _lines(path, zipped, limits.text_bytes) if line.strip())


def _row(line: bytes, most: int) -> Any:
    if len(line) > most:
        return Unreadable(f"longer than {size(most)}")
    try:
        return json.loads(decode(line))
    except Unreadable as error:
        return error
    except json.JSONDecodeError as error:
        return Unreadable(f"not valid JSON at column {error.colno}: {error.msg}")
    except RecursionError:
        return Unreadable("nested too deeply")
    except ValueError:
        return Unreadable("not valid JSON: a number is too long")


def _lines(path: Path, zipped: bool, most: int) -> Iterator[bytes]:
    """The lines; of one that is too long only its beginning, which is longer than `most`."""
    with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
        while line := stream.readline(most + 1):
            yield line
            while len(line) > most and not line.endswith(b"\n"):
                line = stream.readline(most + 1)
