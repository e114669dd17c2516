"""What every parser gives, what it raises, and how files are told apart. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MIB = 1024 * 1024

KINDS: Mapping[str, str] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
"""What a file is, by how its name ends."""


class Unreadable(ValueError):
    """A file or a row that cannot be taken in; says why, in words for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document as its file has it. `pages` are where pages begin in the text, ascending; empty where there are none.

    `fields` are those of a document row that the file itself gives; the others come from its name.
    """

    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What parsing one file may take."""

    seconds: float = 60.0
    memory_bytes: int = 1024 * MIB
    text_bytes: int = 16 * MIB
    """Text of one document, as UTF-8."""
    unpacked_bytes: int = 256 * MIB
    """An archive (DOCX), unpacked."""


def kind_of(name: str) -> str:
    """What the file is. Raises Unreadable for a name that says nothing we know."""
    for suffix in sorted(KINDS, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return KINDS[suffix]
    raise Unreadable(f"files of these kinds can be read: {' '.join(KINDS)}")


def check_size(text: str, limits: Limits) -> None:
    """Raises Unreadable for more text than one document may have."""
    if len(text) > limits.text_bytes or len(text.encode()) > limits.text_bytes:
        raise Unreadable(f"holds more than {size(limits.text_bytes)} of text; divide it")


def size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / MIB:.4g} MiB" if count >= MIB else f"{count} bytes"
