"""Files as people send them, good and bad."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence

import docx
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

MIB = 1024 * 1024
PAGE = """<html><head><title>Harbour guide</title><link rel="canonical" href="https://example.org/harbour">
<style>p {color: red}</style></head><body><nav><a href="/">Home</a> <a href="/all">All pages</a></nav><article>
<h1>Harbour</h1><p>The harbour opened in <b>1901</b>. It was built by the town.</p><h2>Ships</h2>
<p>Twelve ships came in the first year.</p><table><tr><th>Year</th><th>Ships</th></tr><tr><td>1901</td><td>12</td></tr>
</table></article><footer>We use cookies</footer><script>alert("x")</script></body></html>"""


def pdf(pages: Sequence[str], title: str = "", password: str = "", opens_with: str = "") -> bytes:
    """A PDF with a line of text a page; an empty one is a picture of text, as scanned."""
    writer = PdfWriter()
    for line in pages:
        page = writer.add_blank_page(width=300, height=300)
        if line:
            _write(writer, page, line)
    if title:
        writer.add_metadata({"/Title": title})
    if password:
        writer.encrypt(opens_with, password, algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def _write(writer: PdfWriter, page: DictionaryObject, line: str) -> None:
    kind = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    font = DictionaryObject({NameObject(name): NameObject(value) for name, value in kind.items()})
    fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 20 250 Td ({line}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)


def word(title: str = "") -> bytes:
    """A DOCX with headings, paragraphs, a list and a table."""
    document = docx.Document()
    document.core_properties.title = title
    document.add_heading("Harbour", level=1)
    document.add_paragraph("The harbour opened in 1901.")
    document.add_heading("Ships", level=2)
    document.add_paragraph("# of ships: twelve")
    document.add_paragraph("a steamer", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for place, text in enumerate(("Year", "Ships", "1901", "a|b")):
        table.cell(place // 2, place % 2).text = text
    document.add_paragraph("The end.")
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def bomb(declares: int = 256 * MIB, members: int = 20) -> bytes:
    """A DOCX of so many members that each unpack to 256 MiB of zeros, whatever they declare."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = b"\x00" * MIB
    raw = b"".join([packer.compress(zeros) for _ in range(256)] + [packer.flush()])
    written = io.BytesIO(word())
    with zipfile.ZipFile(written, "a") as archive:
        for number in range(members):
            _add_packed(archive, f"word/media/{number}.bin", raw, declares)
    return written.getvalue()


def _add_packed(archive: zipfile.ZipFile, name: str, raw: bytes, declares: int) -> None:
    assert archive.fp is not None
    info = zipfile.ZipInfo(name)
    info.compress_type, info.compress_size, info.file_size = zipfile.ZIP_DEFLATED, len(raw), declares
    archive.fp.seek(archive.start_dir)
    info.CRC, info.header_offset = 0, archive.fp.tell()
    archive.fp.write(info.FileHeader(False) + raw)
    archive.filelist.append(info)
    archive.NameToInfo[name] = info
    archive.start_dir = archive.fp.tell()
    archive._didModify = True
