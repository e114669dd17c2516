"""Bytes as text: UTF-8, or what a byte order mark or the page itself declares. Never guessed."""

from __future__ import annotations

import codecs
import re

from pipelines.parsers.base import Unreadable

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHARSET = re.compile(rb"<(?:meta|\?xml)\s[^>]{0,200}?(?:charset|encoding)\s{0,8}=\s{0,8}[\"']?([\w:.-]{1,40})", re.I)
_DECLARED_WITHIN = 4096
# Pages that declare these are meant, and shown by every browser, as windows-1252 (WHATWG Encoding Standard).
_LATIN = ("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii")
_UNPAIRED = re.compile("[\ud800-\udfff]")


def decode(raw: bytes) -> str:
    """Raises Unreadable for anything but UTF-8, or UTF-16 and UTF-32 with a byte order mark."""
    return _checked(_decode(raw, _marked(raw) or "utf-8", "convert the file to UTF-8"))


def decode_html(raw: bytes) -> str:
    """As `decode`, or as the page declares in its first bytes."""
    if mark := _marked(raw):
        return _checked(_decode(raw, mark, "convert the file to UTF-8"))
    found = _CHARSET.search(raw, 0, _DECLARED_WITHIN)
    declared = found[1].decode().lower() if found else "utf-8"
    name = "cp1252" if declared in _LATIN else declared
    return _checked(_decode(raw, name, "declare its charset in a meta element, or convert it to UTF-8"))


def clean(text: str) -> str:
    """Text that every store can hold: no NUL, no half of a surrogate pair."""
    return _UNPAIRED.sub("\ufffd", text.replace("\x00", ""))


def storable(text: str) -> bool:
    """Whether every store can hold it."""
    return "\x00" not in text and _UNPAIRED.search(text) is None


def _marked(raw: bytes) -> str:
    return next((name for mark, name in _MARKS if raw.startswith(mark)), "")


def _decode(raw: bytes, encoding: str, advice: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise Unreadable(f"not {name} at byte {error.start}; {advice}") from None
    except (LookupError, UnicodeError):
        raise Unreadable(f"the charset {encoding!r} is not known; {advice}") from None


def _checked(text: str) -> str:
    if not storable(text):
        raise Unreadable("holds NUL characters; this is not a text file")
    return text
