"""PDF: the text of its pages, and where each begins. Runs in a worker process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.parsers.base import Limits, Parsed, Unreadable, check_size
from pipelines.parsers.encoding import clean
from pipelines.parsers.plain import escaped

_BETWEEN = "\n\n"
_END_WITHIN = 2048
_LONGEST_TITLE = 1_000


def parse(path: Path, limits: Limits) -> Parsed:
    """The pages' text with a blank line between. A file that breaks off is refused, not taken in half."""
    import pypdf.errors

    _check_whole(path)
    try:
        reader = pypdf.PdfReader(path)
        _decrypt(reader)
        return _pages(reader, limits)
    except pypdf.errors.PyPdfError as error:
        raise Unreadable(f"not a valid PDF: {' '.join(str(error).split())[:200]}") from None


def _check_whole(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(1024)
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - _END_WITHIN))
        tail = stream.read()
    if not head:
        raise Unreadable("the file is empty")
    if b"%PDF-" not in head:
        raise Unreadable("not a PDF: it does not begin as one")
    if b"%%EOF" not in tail:
        raise Unreadable("the file breaks off: a PDF ends in %%EOF")


def _decrypt(reader: Any) -> None:
    """Many files are encrypted with an empty password, for all to read."""
    import pypdf.errors

    if not reader.is_encrypted:
        return
    try:
        opened = bool(reader.decrypt(""))
    except (pypdf.errors.DependencyError, NotImplementedError):
        opened = False
    if not opened:
        raise Unreadable("is encrypted; save it without a password")


def _pages(reader: Any, limits: Limits) -> Parsed:
    parts: list[str] = []
    begins: list[int] = []
    position = 0
    for page in reader.pages:
        begins.append(position)
        if part := escaped(clean(page.extract_text())).strip():
            parts.append(part)
            position += len(part) + len(_BETWEEN)
            check_size(part, limits)
            if position > limits.text_bytes:
                break
    text = _BETWEEN.join(parts)
    if not text:
        raise Unreadable("has no text (scanned?); recognise its text (OCR) first")
    return Parsed(text, _fields(reader), tuple(begins))


def _fields(reader: Any) -> dict[str, str]:
    try:
        title = reader.metadata.title if reader.metadata else None
    except Exception:  # a broken title is no reason to lose the text
        title = None
    title = clean(title).strip()[:_LONGEST_TITLE] if isinstance(title, str) else ""
    return {"title": title} if title else {}
