"""Load: uploaded files as a stream of rows, one broken row never in the way of the rest."""

from __future__ import annotations

import gzip
import heapq
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipelines.parse import decode, decode_json, parse_file, parse_row
from pipelines.records import Loaded, Source
from services.catalog.records import DocumentIn
from services.common.errors import AlmanacError
from services.common.moment import OPEN_END

SUFFIXES = (".md", ".markdown", ".txt", ".jsonl", ".jsonl.gz")
MAX_LINE_BYTES = 16 * 1024 * 1024


def load(sources: Sequence[Source], history: bool) -> Iterator[Loaded]:
    """Every row of every file, in a fixed order; a history's files are merged by record time.

    The order is what a resumed job counts on.
    """
    streams = [_load_file(source) for source in sources]
    merged = heapq.merge(*streams, key=_recorded_at) if history else (row for rows in streams for row in rows)
    return _without_duplicates(merged)


def count(sources: Sequence[Source]) -> int:
    """How many rows the files hold, without parsing them."""
    return sum(_count_lines(source) if _is_lines(source.name) else 1 for source in sources)


def _load_file(source: Source) -> Iterator[Loaded]:
    if _is_lines(source.name):
        yield from _load_lines(source)
        return
    try:
        row = parse_file(decode(Path(source.path).read_bytes()), source.name, source.valid_from)
    except (AlmanacError, OSError) as error:
        yield Loaded(source.name, None, id=source.name, reason=_reason(error))
        return
    yield Loaded(source.name, None, row, row.doc_id)


def _load_lines(source: Source) -> Iterator[Loaded]:
    number = 0
    try:
        for number, line in enumerate(_lines(source), start=1):
            if line.strip():
                yield _load_line(source, number, line)
    except (OSError, EOFError, zlib.error) as error:
        yield Loaded(source.name, number + 1, reason=f"the file breaks off: {error}")


def _load_line(source: Source, number: int, line: bytes) -> Loaded:
    found = ""
    try:
        if len(line) > MAX_LINE_BYTES:
            return Loaded(source.name, number, reason=f"longer than {MAX_LINE_BYTES} bytes")
        fields = decode_json(line)
        if isinstance(fields, dict):
            found = str(fields.get("id") or fields.get("question_id") or "")[:128]
            if source.valid_from is not None:
                fields.setdefault("valid_from", source.valid_from)
        return Loaded(source.name, number, parse_row(fields), found)
    except AlmanacError as error:
        return Loaded(source.name, number, id=found, reason=error.detail)


def _lines(source: Source) -> Iterator[bytes]:
    opener = gzip.open if source.name.endswith(".gz") else open
    with opener(source.path, "rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            yield line
            while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES + 1)


def _count_lines(source: Source) -> int:
    try:
        return sum(1 for line in _lines(source) if line.strip())
    except (OSError, EOFError, zlib.error):
        return 1


def _is_lines(name: str) -> bool:
    return name.endswith((".jsonl", ".jsonl.gz"))


def _recorded_at(loaded: Loaded) -> int:
    """A row that failed comes at once; one without a record time comes last."""
    if loaded.row is None:
        return 0
    return OPEN_END if loaded.row.recorded_at is None else loaded.row.recorded_at


def _without_duplicates(rows: Iterable[Loaded]) -> Iterator[Loaded]:
    """A second version of one document with the same validity and record time is a mistake, and is named as one."""
    seen: dict[tuple[str, int | None, int | None], Loaded] = {}
    for loaded in rows:
        if isinstance(loaded.row, DocumentIn):
            first = seen.setdefault(_identity(loaded.row), loaded)
            if first is not loaded:
                yield Loaded(loaded.source, loaded.line, id=loaded.id, reason=_duplicate(first))
                continue
        yield loaded


def _identity(row: DocumentIn) -> tuple[str, int | None, int | None]:
    return row.doc_id, row.valid_from, row.recorded_at


def _duplicate(first: Loaded) -> str:
    where = f"line {first.line} of {first.source}" if first.line else first.source
    return f"duplicate id {first.id!r} with the same valid_from as {where}, which stands"


def _reason(error: Exception) -> str:
    return error.detail if isinstance(error, AlmanacError) else f"cannot be read: {error}"
