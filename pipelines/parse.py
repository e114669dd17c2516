"""Rows and parsed files as documents and facts. Whatever is wrong with one is said in words that name the field."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from pipelines.parsers.base import KINDS, Parsed
from pipelines.parsers.encoding import storable
from pipelines.records import Row
from services.catalog.records import DocumentIn, FactIn
from services.common.errors import InvalidDocument
from services.common.moment import parse_instant, parse_span

MAX_ID = 512
_DOCUMENT_FIELDS = {"id", "title", "text", "uri", "valid_from", "valid_to", "metadata", "recorded_at"}
_FACT_FIELDS = {
    "question_id", "question", "answer", "also_accepted", "phrasings", "source", "valid_from", "valid_to",
    "recorded_at",
}  # fmt: skip
_NESTED = ("metadata", "also_accepted", "phrasings")
MAX_PHRASINGS = 64


def parse_row(fields: Any) -> Row:
    """A JSON object as a document, or as a fact where it asks a question. Raises InvalidDocument or InvalidMoment."""
    if not isinstance(fields, dict):
        raise InvalidDocument("the line holds no JSON object")
    return _fact(fields) if "question" in fields else _document(fields)


def parse_cells(fields: Mapping[str, Any]) -> Row:
    """A table's row: what a JSON object nests stands in a cell as JSON."""
    nested = {name: _nested(name, value) for name, value in fields.items() if name in _NESTED}
    return parse_row({**fields, **nested})


def parse_file(parsed: Parsed, name: str, valid_from: str | None = None) -> DocumentIn:
    """A file that is one document; what it does not say of itself its name does."""
    path = document_name(name)
    described = {"id": path, "title": PurePosixPath(path).name, "valid_from": valid_from, **parsed.fields}
    return replace(_document({**described, "text": parsed.text}), pages=parsed.pages)


def document_name(name: str) -> str:
    """The id of a file that names none: its path without the suffix."""
    suffix = next((known for known in sorted(KINDS, key=len, reverse=True) if name.lower().endswith(known)), "")
    return name[: len(name) - len(suffix)] or name


def _nested(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidDocument(f"{name}: JSON is needed in this cell") from None


def _document(fields: Mapping[str, Any]) -> DocumentIn:
    _only(fields, _DOCUMENT_FIELDS)
    start, end = parse_span(_text(fields, "valid_from") or None, _text(fields, "valid_to") or None)
    text = _text(fields, "text", required=True, longest=None)
    return DocumentIn(
        doc_id=_id(fields, "id", required=True),
        title=_text(fields, "title"),
        text=text,
        uri=_text(fields, "uri"),
        metadata=_metadata(fields.get("metadata")),
        valid_from=start,
        valid_to=end,
        recorded_at=_recorded_at(fields),
    )


def _fact(fields: Mapping[str, Any]) -> FactIn:
    _only(fields, _FACT_FIELDS)
    start, end = parse_span(_text(fields, "valid_from") or None, _text(fields, "valid_to") or None)
    return FactIn(
        question=_text(fields, "question", required=True),
        answer=_text(fields, "answer", required=True),
        question_id=_id(fields, "question_id"),
        also_accepted=_texts(fields, "also_accepted"),
        phrasings=_phrasings(fields),
        source=_text(fields, "source"),
        valid_from=start,
        valid_to=end,
        recorded_at=_recorded_at(fields),
    )


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    listed = fields.get(name) or []
    if not isinstance(listed, list) or not all(_is_text(text) for text in listed):
        raise InvalidDocument(f"{name}: a list of strings is needed")
    return tuple(listed)


def _phrasings(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Each once, without those that are the question itself."""
    found = tuple(dict.fromkeys(text.strip() for text in _texts(fields, "phrasings")))
    if len(found) > MAX_PHRASINGS or any(len(text) > 4_096 or not text for text in found):
        raise InvalidDocument(f"phrasings: at most {MAX_PHRASINGS}, each of 1 to 4096 characters")
    return tuple(text for text in found if text != fields["question"])


def _only(fields: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(str(name) for name in set(fields) - known)
    if unknown:
        raise InvalidDocument(f"unknown field {unknown[0][:64]!r}; known are {', '.join(sorted(known))}")


_BREAKS = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters, line and paragraph separators."""


def _id(fields: Mapping[str, Any], name: str, required: bool = False) -> str:
    """A name that stands in paths and on one line of a log."""
    value = _text(fields, name, required, MAX_ID)
    if any(unicodedata.category(char) in _BREAKS for char in value):
        raise InvalidDocument(f"{name}: holds line breaks or control characters; take them out")
    return value


def _text(fields: Mapping[str, Any], name: str, required: bool = False, longest: int | None = 4_096) -> str:
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and name in ("id", "question_id"):
        value = str(value)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value.strip()):
        raise InvalidDocument(f"{name}: a {'non-empty ' if required else ''}string is needed")
    if longest is not None and len(value) > longest:
        raise InvalidDocument(f"{name}: {len(value)} characters, at most {longest} are allowed")
    if not storable(value):
        raise InvalidDocument(f"{name}: holds NUL characters or half of a surrogate pair")
    return value


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str | int | float | bool) for item in value.values()):
        raise InvalidDocument("metadata: a flat object of strings, numbers and booleans is needed")
    found = {str(name): str(item) for name, item in value.items()}
    if not all(storable(name) and storable(item) for name, item in found.items()):
        raise InvalidDocument("metadata: holds NUL characters or half of a surrogate pair")
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and storable(value)


def _recorded_at(fields: Mapping[str, Any]) -> int | None:
    found = _text(fields, "recorded_at")
    return parse_instant(found, "recorded_at") if found else None
