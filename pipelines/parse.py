"""Rows and files as documents and facts. Whatever is wrong with one is said in words that name the field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Any

import yaml

from pipelines.records import Row
from services.catalog.records import DocumentIn, FactIn
from services.common.errors import InvalidDocument
from services.common.moment import parse_instant, parse_span

MAX_ID = 512
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FIRST_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_DOCUMENT_FIELDS = {"id", "title", "text", "uri", "valid_from", "valid_to", "metadata", "recorded_at"}
_FACT_FIELDS = {
    "question_id", "question", "answer", "also_accepted", "valid_from", "valid_to", "source", "recorded_at",
}  # fmt: skip


def parse_row(fields: Any) -> Row:
    """A JSON object as a document, or as a fact where it asks a question. Raises InvalidDocument or InvalidMoment."""
    if not isinstance(fields, dict):
        raise InvalidDocument("the line holds no JSON object")
    return _fact(fields) if "question" in fields else _document(fields)


def parse_file(text: str, name: str, valid_from: str | None = None) -> DocumentIn:
    """A Markdown or plain text file; front matter names what the file's name does not."""
    fields: dict[str, Any] = {}
    markdown = name.endswith((".md", ".markdown"))
    if markdown and (found := _FRONT_MATTER.match(text)):
        fields = _front_matter(found[1])
        text = text[found.end() :]
    heading = _FIRST_HEADING.search(text) if markdown else None
    path = PurePosixPath(name)
    title = heading[1] if heading else path.stem
    return _document(
        {"id": str(path.with_suffix("")), "title": title, "valid_from": valid_from, **fields, "text": text}
    )


def decode(raw: bytes) -> str:
    """UTF-8, with or without a byte order mark; anything else is refused rather than guessed."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidDocument(f"not UTF-8 at byte {error.start}; convert the file to UTF-8") from None
    if "\x00" in text:
        raise InvalidDocument("holds NUL characters; this is not a text file")
    return text


def decode_json(line: bytes) -> Any:
    try:
        return json.loads(decode(line))
    except json.JSONDecodeError as error:
        raise InvalidDocument(f"not valid JSON at column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise InvalidDocument("nested too deeply") from None


def _front_matter(block: str) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(block) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidDocument(f"front matter is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(fields, dict):
        raise InvalidDocument("front matter must be a mapping of fields")
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


def _document(fields: Mapping[str, Any]) -> DocumentIn:
    _only(fields, _DOCUMENT_FIELDS)
    start, end = parse_span(_text(fields, "valid_from") or None, _text(fields, "valid_to") or None)
    text = _text(fields, "text", required=True, longest=None)
    return DocumentIn(
        doc_id=_text(fields, "id", required=True, longest=MAX_ID),
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
    accepted = fields.get("also_accepted") or []
    if not isinstance(accepted, list) or not all(isinstance(answer, str) for answer in accepted):
        raise InvalidDocument("also_accepted: a list of strings is needed")
    return FactIn(
        question=_text(fields, "question", required=True),
        answer=_text(fields, "answer", required=True),
        question_id=_text(fields, "question_id", longest=MAX_ID),
        also_accepted=tuple(accepted),
        source=_text(fields, "source"),
        valid_from=start,
        valid_to=end,
        recorded_at=_recorded_at(fields),
    )


def _only(fields: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(str(name) for name in set(fields) - known)
    if unknown:
        raise InvalidDocument(f"unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")


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
    return value


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str | int | float | bool) for item in value.values()):
        raise InvalidDocument("metadata: a flat object of strings, numbers and booleans is needed")
    return {str(name): str(item) for name, item in value.items()}


def _recorded_at(fields: Mapping[str, Any]) -> int | None:
    found = _text(fields, "recorded_at")
    return parse_instant(found, "recorded_at") if found else None
