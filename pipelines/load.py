"""Load: uploaded files as a stream of rows, one broken file or row never in the way of the rest."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.parse import document_name, parse_cells, parse_file, parse_row
from pipelines.parsers import csv, jsonl, markdown
from pipelines.parsers.base import KINDS, Parsed, Unreadable, kind_of
from pipelines.parsers.pool import ParserPool
from pipelines.records import Loaded, Source
from services.catalog.records import DocumentIn
from services.common.errors import AlmanacError
from services.common.moment import OPEN_END

SUFFIXES = tuple(KINDS)
TABLES = ("jsonl", "csv", "parquet")
"""What holds a document or a fact a row; any other file is one document."""
_NO_ROWS = "the file is empty: it holds no rows"
_BREAKS_OFF = (Unreadable, OSError, EOFError, zlib.error)


def load(sources: Sequence[Source], history: bool, parsers: ParserPool) -> Iterator[Loaded]:
    """Every row of every file, in a fixed order; a history's files are merged by record time.

    The order is what a resumed job counts on.
    """
    streams = [_load_file(source, parsers) for source in sources]
    merged = heapq.merge(*streams, key=_recorded_at) if history else (row for rows in streams for row in rows)
    return _without_duplicates(merged)


def count(sources: Sequence[Source], parsers: ParserPool) -> int:
    """How many rows the files hold, without parsing what is in them; one that cannot be read counts as one."""
    return sum(_count(source, parsers) for source in sources)


def _load_file(source: Source, parsers: ParserPool) -> Iterator[Loaded]:
    try:
        kind = kind_of(source.name)
        if kind in TABLES:
            yield from _load_rows(source, kind, parsers)
            return
        row = parse_file(_parsed(source, kind, parsers), source.name, source.valid_from)
    except (AlmanacError, Unreadable, OSError) as error:
        yield Loaded(source.name, None, id=document_name(source.name), reason=_reason(error))
        return
    yield Loaded(source.name, None, row, row.doc_id)


def _parsed(source: Source, kind: str, parsers: ParserPool) -> Parsed:
    if kind == "text":
        return markdown.parse_text(Path(source.path), parsers.limits)
    if kind == "markdown":
        return markdown.parse_markdown(Path(source.path), parsers.limits)
    return parsers.document(source.path, kind)


def _load_rows(source: Source, kind: str, parsers: ParserPool) -> Iterator[Loaded]:
    number = 0
    try:
        for number, fields in _rows(source, kind, parsers):
            yield _load_row(source, number, fields, kind)
    except _BREAKS_OFF as error:
        yield Loaded(source.name, number + 1, reason=f"the file breaks off: {_reason(error)}")
        return
    if not number:
        yield Loaded(source.name, None, reason=_NO_ROWS)


def _rows(source: Source, kind: str, parsers: ParserPool) -> jsonl.Rows:
    path = Path(source.path)
    if kind == "jsonl":
        return jsonl.rows(path, _zipped(source), parsers.limits)
    if kind == "csv":
        return csv.rows(path, parsers.limits)
    return enumerate(parsers.rows(source.path), start=1)


def _load_row(source: Source, number: int, fields: Any, kind: str) -> Loaded:
    found = ""
    try:
        if isinstance(fields, Unreadable):
            raise fields
        if isinstance(fields, dict):
            found = str(fields.get("id") or fields.get("question_id") or "")[:128]
            if source.valid_from is not None:
                fields.setdefault("valid_from", source.valid_from)
        return Loaded(source.name, number, parse_row(fields) if kind == "jsonl" else parse_cells(fields), found)
    except (AlmanacError, Unreadable) as error:
        return Loaded(source.name, number, id=found, reason=_reason(error))


def _count(source: Source, parsers: ParserPool) -> int:
    path = Path(source.path)
    try:
        match kind_of(source.name):
            case "jsonl":
                found = jsonl.count(path, _zipped(source), parsers.limits)
            case "csv":
                found = csv.count(path, parsers.limits)
            case "parquet":
                found = parsers.count(source.path)
            case _:
                found = 1
    except _BREAKS_OFF:
        found = 1
    return max(1, found)


def _zipped(source: Source) -> bool:
    return source.name.lower().endswith(".gz")


def _recorded_at(loaded: Loaded) -> int:
    """A row that failed comes at once; one without a record time comes last."""
    if loaded.row is None:
        return 0
    return OPEN_END if loaded.row.recorded_at is None else loaded.row.recorded_at


def _without_duplicates(rows: Iterable[Loaded]) -> Iterator[Loaded]:
    """A second version of one document with the same validity and record time is a mistake, and is named as one."""
    seen: dict[tuple[str, int | None, int | None], str] = {}
    for loaded in rows:
        if isinstance(loaded.row, DocumentIn):
            first = seen.get(_identity(loaded.row))
            if first is not None:
                reason = f"duplicate id {loaded.id!r} with the same valid_from as {first}, which stands"
                yield Loaded(loaded.source, loaded.line, id=loaded.id, reason=reason)
                continue
            seen[_identity(loaded.row)] = f"line {loaded.line} of {loaded.source}" if loaded.line else loaded.source
        yield loaded


def _identity(row: DocumentIn) -> tuple[str, int | None, int | None]:
    return row.doc_id, row.valid_from, row.recorded_at


def _reason(error: Exception) -> str:
    if isinstance(error, AlmanacError):
        return error.detail
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error)
