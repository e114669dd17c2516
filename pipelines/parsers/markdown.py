"""Markdown with front matter, and plain text."""

from __future__ import annotations

from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from pipelines.parsers.base import Limits, Parsed, Unreadable, check_size, size
from pipelines.parsers.encoding import decode

_MOST_FRONT_MATTER = 64 * 1024
_LONGEST_TITLE = 1_000


def parse_text(path: Path, limits: Limits) -> Parsed:
    """The whole file is the text."""
    return Parsed(_read(path, limits))


def parse_markdown(path: Path, limits: Limits) -> Parsed:
    """Front matter gives fields; the first heading is the title, unless the front matter names one."""
    text, fields = split_front_matter(_read(path, limits))
    title = first_heading(text)
    return Parsed(text, ({"title": title} if title else {}) | fields)


def split_front_matter(text: str) -> tuple[str, dict[str, Any]]:
    """The text after the front matter, and its fields."""
    lines = text.splitlines(keepends=True)
    if not lines or lines[0].rstrip("\r\n") != "---":
        return text, {}
    length = len(lines[0])
    for number, line in enumerate(lines[1:], start=1):
        length += len(line)
        if line.rstrip() == "---":
            return text[length:], _fields("".join(lines[1:number]))
    return text, {}


def first_heading(text: str) -> str:
    """The text of the first Markdown heading, or nothing."""
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        level = len(line) - len(line.lstrip("#"))
        if not fenced and 1 <= level <= 6 and line[level : level + 1] in (" ", "\t"):
            return line[level:].strip().rstrip("#").rstrip()[:_LONGEST_TITLE]
    return ""


def _read(path: Path, limits: Limits) -> str:
    with path.open("rb") as stream:
        raw = stream.read(4 * limits.text_bytes + 4)
    if not raw:
        raise Unreadable("the file is empty")
    text = decode(raw)
    check_size(text, limits)
    if not text.strip():
        raise Unreadable("holds nothing but white space")
    return text


def _fields(block: str) -> dict[str, Any]:
    if len(block) > _MOST_FRONT_MATTER:
        raise Unreadable(f"front matter is longer than {size(_MOST_FRONT_MATTER)}")
    try:
        fields = yaml.safe_load(block) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable(f"front matter is not valid YAML: {''.join(islice(str(error).splitlines(), 1))}") from None
    if not isinstance(fields, dict):
        raise Unreadable("front matter must be a mapping of fields")
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value
