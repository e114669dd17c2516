"""Each format: what is read of a good file, and what is said of a bad one. In this process; limits: test_parse_pool."""

import io
import zlib
from dataclasses import replace

import docx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.parse import parse_file
from pipelines.parsers import csv, html, jsonl, markdown, pdf
from pipelines.parsers import docx as word_parser
from pipelines.parsers.base import KINDS, Limits, Parsed, Unreadable, kind_of
from pipelines.parsers.parquet import Reader
from services.admin import inputs
from services.common.errors import InvalidDocument
from services.gateway import uploads
from tests.fakes import files

LIMITS = Limits()
SMALL = replace(LIMITS, text_bytes=1_000)


@pytest.fixture
def put(tmp_path):
    def write(data, name="file"):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def refused(parse, *args):
    with pytest.raises(Unreadable) as caught:
        parse(*args)
    return str(caught.value)


def test_gateway_command_line_and_pipeline_know_the_same_kinds():
    assert set(uploads.DOCUMENT_SUFFIXES) == set(inputs.DOCUMENTS) == set(KINDS)
    assert set(uploads.FACT_SUFFIXES) == set(inputs.FACTS)


@pytest.mark.parametrize(("name", "kind"), [("A.PDF", "pdf"), ("x/y.jsonl.gz", "jsonl"), ("n.Markdown", "markdown")])
def test_a_file_is_known_by_how_its_name_ends(name, kind):
    assert kind_of(name) == kind


def test_a_name_that_says_nothing_is_refused_with_the_kinds_there_are():
    assert ".docx" in refused(kind_of, "notes.exe")


def test_front_matter_names_fields_and_the_first_heading_the_title(put):
    found = markdown.parse_markdown(put("---\nvalid_from: 2024-01-01\n---\n# Harbour #\n\nText.\n"), LIMITS)
    row = parse_file(found, "port/harbour.v2.md")
    assert (row.doc_id, row.title, row.text) == ("port/harbour.v2", "Harbour", "# Harbour #\n\nText.\n")
    assert row.valid_from == 1_704_067_200_000_000


def test_a_heading_in_a_code_fence_is_no_title(put):
    assert markdown.parse_markdown(put("```\n# no\n```\n# Yes\n"), LIMITS).fields == {"title": "Yes"}


def test_front_matter_that_never_ends_is_text(put):
    assert markdown.parse_markdown(put("---\nno end\n"), LIMITS).text == "---\nno end\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "white space"),
        (b"Harbour\x00", "NUL"),
        ("Häfen".encode("latin-1"), "not UTF-8 at byte 1"),
        (b"\xff\xfea", "not UTF-16"),
        (b"x" * 1_001, "more than 1000 bytes of text"),
        (b"---\n- a\n---\nText", "mapping"),
        (b"---\na: [\n---\nText", "not valid YAML"),
        (b"---\na: " + b"[" * 5_000 + b"\n---\nText", "text"),
    ],
)
def test_a_bad_text_file_is_refused_for_its_reason(put, data, reason):
    assert reason in refused(markdown.parse_markdown, put(data), SMALL)


def test_a_deeply_nested_front_matter_is_refused(put):
    data = "---\na: " + "[" * 20_000 + "\n---\nText"
    assert "not valid YAML" in refused(markdown.parse_markdown, put(data), LIMITS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(put, encoding):
    assert markdown.parse_text(put("Häfen".encode(encoding)), LIMITS).text == "Häfen"


@pytest.mark.parametrize("field", ["valid_from", "valid_to", "recorded_at"])
@pytest.mark.parametrize("value", ["yesterday", "2024-02-30", "99999-01-01", "2024-13-01"])
def test_a_wrong_date_names_its_field(field, value):
    with pytest.raises(Exception, match=field):
        parse_file(Parsed("Text", {field: value}), "a.md")


@pytest.mark.parametrize("fields", [{"title": "a\x00"}, {"id": "\ud800"}, {"metadata": {"a": "\x00"}}])
def test_what_no_store_can_hold_is_refused(fields):
    with pytest.raises(InvalidDocument, match="NUL"):
        parse_file(Parsed("Text", fields), "a.md")


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "a\x7fb"])
def test_an_id_that_no_path_can_name_is_refused(name):
    with pytest.raises(InvalidDocument, match="line breaks"):
        parse_file(Parsed("Text", {"id": name}), "a.md")


def test_an_id_may_hold_any_space_of_one_line():
    assert parse_file(Parsed("Text", {"id": "a\u00a0b c"}), "a.md").doc_id == "a\u00a0b c"


def test_html_gives_the_main_content_as_markdown_with_title_and_address(put):
    found = html.parse(put(files.PAGE), LIMITS)
    assert found.fields == {"title": "Harbour", "uri": "https://example.org/harbour"}
    assert "# Harbour\n" in found.text and "## Ships\n" in found.text and "| 1901 | 12 |" in found.text
    assert "The harbour opened in 1901. It was built by the town." in found.text
    assert not any(frame in found.text for frame in ("Home", "cookies", "alert", "color"))


def test_a_very_short_page_is_a_page(put):
    assert html.parse(put("<p>Tiny.</p>"), LIMITS).text == "Tiny."


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('<meta charset="iso-8859-2"><p>Łódź harbour</p>'.encode("iso-8859-2"), "Łódź harbour"),
        ('<meta charset="ISO-8859-1"><p>A “quay”</p>'.encode("cp1252"), "A “quay”"),
        ("<p>Häfen am Meer</p>".encode("utf-16"), "Häfen am Meer"),
        ("<p>Häfen am Meer</p>".encode(), "Häfen am Meer"),
    ],
)
def test_a_page_is_read_in_the_charset_it_declares(put, data, text):
    assert html.parse(put(data), LIMITS).text == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html><body><script>x</script></body></html>", "no text"),
        (b"<!-- nothing -->", "no text"),
        ("<p>Häfen</p>".encode("latin-1"), "declare its charset"),
        (b'<meta charset="klingon"><p>x</p>', "'klingon' is not known"),
        (b'<meta charset="zlib"><p>x</p>', "'zlib' is not known"),
        (b"<p>a\x00b</p>", "NUL"),
        (b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000, "nested too deeply"),
        (b"<div>" * 1_500 + b"deep" + b"</div>" * 1_500, "nested too deeply"),
        (b"<p>" + b"harbour " * 200, "more than 1000 bytes"),
    ],
)
def test_a_bad_page_is_refused_for_its_reason(put, data, reason):
    assert reason in refused(html.parse, put(data), SMALL)


def test_pages_of_a_pdf_begin_where_it_says(put):
    found = pdf.parse(put(files.pdf(["First page.", "", "# Third page."], title="Harbour")), LIMITS)
    assert found.text == "First page.\n\n\\# Third page." and found.fields == {"title": "Harbour"}
    assert found.pages == (0, 13, 13) and found.text[13:] == "\\# Third page."


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"Hello", "does not begin as one"),
        (files.pdf(["First page."] * 3)[:-40], "breaks off"),
        (files.pdf(["First page."], password="secret", opens_with="secret"), "is encrypted"),
        (files.pdf(["", ""]), "scanned"),
        (b"%PDF-1.7\nnothing\n%%EOF\n", "not a valid PDF"),
    ],
)
def test_a_bad_pdf_is_refused_for_its_reason(put, data, reason):
    assert reason in refused(pdf.parse, put(data), LIMITS)


def test_a_pdf_encrypted_with_an_empty_password_is_read(put):
    assert pdf.parse(put(files.pdf(["For all."], password="owner")), LIMITS).text == "For all."


def test_headings_and_tables_of_a_docx_become_markdown(put):
    found = word_parser.parse(put(files.word()), LIMITS)
    assert found.text == (
        "# Harbour\n\nThe harbour opened in 1901.\n\n## Ships\n\n\\# of ships: twelve\n\n- a steamer\n\n"
        "| Year | Ships |\n| --- | --- |\n| 1901 | a\\|b |\n\nThe end."
    )
    assert found.fields == {"title": "Harbour"}
    assert word_parser.parse(put(files.word(title="Guide")), LIMITS).fields == {"title": "Guide"}


def empty_docx():
    written = io.BytesIO()
    docx.Document().save(written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"Hello", "not a valid DOCX"),
        (b"\xd0\xcf\x11\xe0" + b"x" * 100, "is encrypted"),
        (files.word()[:-200], "not a valid DOCX"),
        (empty_docx(), "has no text"),
    ],
)
def test_a_bad_docx_is_refused_for_its_reason(put, data, reason):
    assert reason in refused(word_parser.parse, put(data), LIMITS)


def test_a_docx_that_declares_5_gb_is_not_unpacked(put, monkeypatch):
    path = put(files.bomb())
    monkeypatch.setattr(zlib, "decompressobj", None)
    assert refused(word_parser.parse, path, LIMITS) == "unpacks to more than 256 MiB"


def test_a_docx_that_unpacks_to_more_than_it_declares_is_refused(put):
    assert "not a valid DOCX" in refused(word_parser.parse, put(files.bomb(declares=100)), LIMITS)


def test_a_docx_with_too_many_members_is_refused(put, monkeypatch):
    monkeypatch.setattr(word_parser, "_MOST_MEMBERS", 3)
    assert "members" in refused(word_parser.parse, put(files.word()), LIMITS)


def test_a_broken_line_of_json_does_not_stand_in_the_way(put):
    path = put(b'{"id": "a"}\n\n{"id"\n' + b"x" * 3_000 + b"\n\xff\n" + b"[" * 900 + b'\n{"id": "b"}\n')
    found = dict(jsonl.rows(path, False, SMALL))
    assert found[1] == {"id": "a"} and found[7] == {"id": "b"}
    assert [type(found[line]) for line in (3, 4, 5, 6)] == [Unreadable] * 4
    assert jsonl.count(path, False, SMALL) == 6


def test_csv_cells_are_the_fields_their_header_names(put):
    path = put('\ufeffid,title,text\na,,"One\nand two"\n\nb,B\nc,C,Three\n')
    found = list(csv.rows(path, LIMITS))
    assert found[0] == (3, {"id": "a", "text": "One\nand two"}) and found[2] == (
        6,
        {"id": "c", "title": "C", "text": "Three"},
    )
    assert found[1][0] == 5 and "2 cells, and the header names 3" in str(found[1][1])
    assert csv.count(path, LIMITS) == 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"id,id\na,b\n", "twice"),
        (b"", "name the fields"),
        (b'id,text\na,"open', "not valid CSV"),
        (b"id,text\n" + b"x" * 1_001, "line 2 is longer than 1000 bytes"),
        (b"id,text\na,\xff\n", "not UTF-8"),
        (b"id,text\na,\x00\n", "NUL"),
    ],
)
def test_a_bad_csv_is_refused_for_its_reason(put, data, reason):
    assert reason in refused(lambda: list(csv.rows(put(data), SMALL)))


def test_stretches_of_a_parquet_file_join_up_wherever_they_begin(put, tmp_path):
    rows = [{"id": str(n), "text": f"Text {n}", "title": None} for n in range(1_000)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=300)
    found, last = [], False
    reader = Reader(path, LIMITS)
    while not last:
        stretch, last = reader.stretch(len(found))
        found += stretch
    assert found == [{"id": str(n), "text": f"Text {n}"} for n in range(1_000)]
    assert reader.stretch(299)[0][:2] == found[299:301] and Reader(path, LIMITS).stretch(650)[0][0] == found[650]


def test_a_bad_parquet_is_refused_for_its_reason(put, tmp_path):
    assert "not valid Parquet" in refused(Reader, put(b"PAR1 and so on"), LIMITS)
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"id": ["a"], "text": ["x" * 3_000]}), path)
    assert "row 1 is longer" in refused(Reader(path, SMALL).stretch, 0)
