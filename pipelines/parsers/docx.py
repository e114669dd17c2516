"""DOCX: paragraphs, with headings and tables as Markdown has them. Runs in a worker process."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.parsers.base import Limits, Parsed, Unreadable, size
from pipelines.parsers.encoding import clean
from pipelines.parsers.plain import escaped

_MOST_MEMBERS = 10_000
_PIECE = 256 * 1024
_HEADING = re.compile(r"[Hh]eading ([1-9])")
_OLE = b"\xd0\xcf\x11\xe0"
_LONGEST_TITLE = 1_000


def parse(path: Path, limits: Limits) -> Parsed:
    """The document's body in order; headings keep their level."""
    import docx
    from docx.opc.exceptions import PackageNotFoundError
    from lxml import etree

    _check_archive(path, limits)
    try:
        document = docx.Document(str(path))
        blocks = [block for block in _blocks(document) if block]
    except (PackageNotFoundError, KeyError, ValueError, etree.XMLSyntaxError) as error:
        raise Unreadable(f"not a valid DOCX: {' '.join(str(error).split())[:200]}") from None
    if not blocks:
        raise Unreadable("has no text")
    return Parsed("\n\n".join(blocks), _fields(document, blocks))


def _check_archive(path: Path, limits: Limits) -> None:
    """Unpack it once into nothing: what it declares is checked first, then what really comes out."""
    with path.open("rb") as stream:
        head = stream.read(4)
    if not head:
        raise Unreadable("the file is empty")
    if head == _OLE:
        raise Unreadable("is encrypted, or an old .doc; save it as .docx without a password")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, limits.unpacked_bytes)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise Unreadable(f"not a valid DOCX: {error}") from None


def _check_members(archive: zipfile.ZipFile, most: int) -> None:
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise Unreadable(f"has {len(members)} members; at most {_MOST_MEMBERS} are allowed")
    if sum(member.file_size for member in members) > most:
        raise Unreadable(f"unpacks to more than {size(most)}")
    total = 0
    for member in members:
        with archive.open(member) as stream:
            while piece := stream.read(_PIECE):
                total += len(piece)
                if total > most:
                    raise Unreadable(f"unpacks to more than {size(most)}")


def _blocks(document: Any) -> Iterator[str]:
    from docx.table import Table

    for block in document.iter_inner_content():
        yield _table(block) if isinstance(block, Table) else _paragraph(block)


def _paragraph(paragraph: Any) -> str:
    text = clean(paragraph.text).strip()
    style = (paragraph.style.name or "") if paragraph.style is not None else ""
    if not text:
        return ""
    if style == "Title":
        return f"# {_line(text)}"
    if found := _HEADING.fullmatch(style):
        return f"{'#' * min(6, int(found[1]))} {_line(text)}"
    return f"- {text}" if style.startswith("List") else escaped(text)


def _table(table: Any) -> str:
    """A Markdown table; its first row is the header. A merged cell is repeated."""
    rows = [[_cell(cell) for cell in row.cells] for row in table.rows]
    width = max((len(row) for row in rows), default=0)
    if not any(any(row) for row in rows):
        return ""
    lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def _cell(cell: Any) -> str:
    return _line(clean(cell.text)).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())


def _fields(document: Any, blocks: list[str]) -> dict[str, str]:
    title = clean(document.core_properties.title or "").strip()
    headings = (block.lstrip("#").strip() for block in blocks if block.startswith("#"))
    title = (title or next(headings, ""))[:_LONGEST_TITLE]
    return {"title": title} if title else {}
