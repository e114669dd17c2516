"""A batch with every kind of bad file: each is named with its reason, the others go in, and no process stays behind."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.advance import Readers
from pipelines.ingest import Pipeline
from pipelines.parsers.base import Limits
from pipelines.parsers.pool import ParserPool
from services.catalog import jobs
from services.catalog.engine import Database
from services.catalog.reading import document_versions, list_documents, version_text
from services.catalog.records import Generation
from services.catalog.state import ensure_generation, resolve_moment
from services.catalog.vectors import VectorFiles
from services.common.moment import now
from services.common.nodes.scope import Scope
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.gateway.uploads import safe_name
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.search import search
from tests.fakes import files
from tests.fakes.encoder import FakeEncoder
from tests.fakes.generator import FakeGenerator
from tests.fakes.retriever import retriever_over

GENERATION = Generation("g1", "all-MiniLM-L6-v2", 64)
HERE = ("local", "notes")
LINE = b"The harbour opened in 1901 and ships came. "
SLOW = "<html><body>" + "".join(f"<p>The harbour {n} opened and ships came.</p>" for n in range(60_000))


@dataclass
class Desk:
    """Files are put down here and taken in together."""

    directory: Path
    nodes: Nodes
    pipeline: Pipeline

    def __post_init__(self) -> None:
        self.sources: list[dict[str, str]] = []

    def put(self, name: str, data: bytes | str) -> None:
        path = self.directory / f"{len(self.sources):04d}"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        self.sources.append({"path": str(path), "name": name})

    async def ingest(self, history: bool = False) -> jobs.Job:
        catalog = self.pipeline.catalog
        with catalog.write() as tx:
            job = jobs.create(tx, *HERE, "documents", {"files": self.sources, "history": history})
            taken = jobs.acquire(tx, job.job_id)
        assert taken is not None
        await self.pipeline.run(taken, GENERATION)
        with catalog.read() as tx:
            return jobs.by_id(tx, job.job_id)

    def documents(self) -> list[str]:
        with self.pipeline.catalog.read() as tx:
            return [row.doc_id for row in list_documents(tx, *HERE, "", 1_000)]

    async def find(self, text: str):
        with self.pipeline.catalog.read() as tx:
            moment = resolve_moment(tx, *HERE, GENERATION, now(), None)
        found = await search(self.nodes, GENERATION, Scope(*HERE, "g1", moment), text, 1, {})
        return found.hits[0].located


@contextmanager
def opened(tmp_path: Path, limits: Limits) -> Iterator[Desk]:
    catalog = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    with catalog.write() as tx:
        ensure_generation(tx, GENERATION)
    encoder, features = FakeEncoder(), PointInTimeFeatures(MemoryBackend())
    retriever = retriever_over("memory", tmp_path)
    vectors, parsers = VectorFiles(tmp_path / "vectors"), ParserPool(limits, 2)
    readers = Readers(catalog, vectors, retriever, features)
    pipeline = Pipeline(catalog, vectors, encoder, readers, lambda text: len(text.split()) + 2, 200, parsers)
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    try:
        yield Desk(uploads, Nodes(catalog, encoder, retriever, features, FakeGenerator()), pipeline)
    finally:
        parsers.close()
        encoder.close()
        catalog.close()
    assert not [child for child in psutil.Process().children() if "pipelines.parsers.worker" in child.cmdline()]


@pytest.fixture
def desk(tmp_path):
    with opened(tmp_path, Limits(seconds=3.0)) as found:
        yield found


def rows_csv() -> str:
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(["id", "title", "text", "valid_from", "metadata"])
    table.writerow(["csv-1", "Docks", "The docks were built in 1911.", "1911-01-01", '{"kind": "dock"}'])
    table.writerow(["csv-2", "Docks", "The docks burned in 1912.", "in spring", ""])
    return written.getvalue()


def rows_parquet() -> bytes:
    written = io.BytesIO()
    rows = [{"id": f"pq-{n}", "text": f"Crane {n} was raised in {1900 + n}."} for n in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), written)
    return written.getvalue()


async def test_every_format_goes_in_and_is_found_with_its_page_and_section(desk):
    desk.put("guide.pdf", files.pdf(["The lighthouse is tall.", "The breakwater is of granite."]))
    desk.put("port/guide.docx", files.word())
    desk.put("port/page.html", files.PAGE)
    desk.put("notes.md", "---\nvalid_from: 2020-01-01\n---\n# Notes\n\nThe ferry leaves at noon.\n")
    desk.put("notes2.txt", "The tide is high.".encode("utf-16"))
    desk.put("rows.jsonl.gz", gzip.compress(b'{"id": "row", "text": "The pier is long."}\n'))
    desk.put("rows.csv", rows_csv())
    desk.put("rows.parquet", rows_parquet())
    job = await desk.ingest()
    assert job.total == job.cursor == 6 + 2 + 40
    assert [(failure["line"], failure["id"]) for failure in job.failures] == [(3, "csv-2")]
    expected = {"guide", "port/guide", "port/page", "notes", "notes2", "row", "csv-1", *(f"pq-{n}" for n in range(40))}
    assert set(desk.documents()) == expected
    granite = await desk.find("breakwater granite")
    assert (granite.doc_id, granite.page(granite.start + len(granite.text) - 1)) == ("guide", 2)
    twelve = await desk.find("Twelve ships came in the first year")
    assert twelve.doc_id == "port/page" and twelve.section == ("Harbour", "Ships") and twelve.page(0) is None
    with desk.pipeline.catalog.read() as tx:
        version = version_text(tx, *HERE, "guide", granite.version_id)
        (crane,) = document_versions(tx, *HERE, "pq-7")
    assert version.text[granite.start : granite.end] == granite.text and list(version.pages) == [0, 25]
    assert crane.text == "Crane 7 was raised in 1907."


BAD = {
    "truncated.pdf": (files.pdf(["One.", "Two."])[:-60], "breaks off"),
    "encrypted.pdf": (files.pdf(["One."], password="x", opens_with="x"), "is encrypted"),
    "scanned.pdf": (files.pdf(["", ""]), "has no text (scanned?)"),
    "bomb.docx": (files.bomb(), "unpacks to more than 256 MiB"),
    "one-line.html": (b"<html><body><p>" + LINE * (50 * files.MIB // len(LINE)), "more than 16 MiB of text"),
    "slow.html": (SLOW, "took longer than 3 s"),
    "deep.html": (b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000, "nested too deeply"),
    "nul.txt": (b"The harbour\x00", "NUL"),
    "nul-in-json.jsonl": (rb'{"id": "n", "text": "a\u0000b"}', "NUL"),
    "latin.md": ("Häfen".encode("latin-1"), "not UTF-8 at byte 1"),
    "latin.html": ("<p>Häfen</p>".encode("latin-1"), "declare its charset"),
    "date.md": ("---\nvalid_from: the fifth\n---\nText.", "valid_from"),
    "date.jsonl": (b'{"id": "d", "text": "Text.", "valid_from": "2023-02-30"}', "valid_from"),
    "empty.md": (b"", "the file is empty"),
    "empty.jsonl": (b"", "the file is empty"),
    "empty.pdf": (b"", "the file is empty"),
    "empty.parquet": (b"", "not valid Parquet"),
    "broken.parquet": (rows_parquet()[:-20], "not valid Parquet"),
    "broken.jsonl.gz": (gzip.compress(b'{"id": "z", "text": "Text."}\n' * 50)[:-30], "breaks off"),
    "good-0.txt": (b"Another harbour.", "duplicate id 'good-0'"),
}


async def test_bad_files_are_named_with_their_reasons_and_the_others_go_in(desk):
    for number, (name, (data, _)) in enumerate(BAD.items()):
        desk.put(f"good-{number}.md", f"# Good {number}\n\nThe quay {number} is good.\n")
        desk.put(name, data)
    desk.put(safe_name("../../etc/escaped.md"), "The path leads nowhere else.")
    desk.put("gone.html", "")
    Path(desk.sources[-1]["path"]).unlink()
    desk.put("folder.md", "")
    Path(desk.sources[-1]["path"]).unlink()
    Path(desk.sources[-1]["path"]).mkdir()
    job = await desk.ingest()
    reasons = {failure["source"]: failure["reason"] for failure in job.failures}
    assert set(reasons) == {*BAD, "gone.html", "folder.md"}
    wrong = {name: reasons[name] for name, (_, reason) in BAD.items() if reason not in reasons[name]}
    assert not wrong
    assert "No such file" in reasons["gone.html"] and "Is a directory" in reasons["folder.md"]
    assert not any(str(desk.directory) in reason for reason in reasons.values())
    assert set(desk.documents()) - {"z"} == {*(f"good-{number}" for number in range(len(BAD))), "etc/escaped"}
    assert (await desk.find("quay 7 is good")).text.startswith("The quay")


async def test_a_history_in_several_files_is_merged_whatever_their_formats(desk):
    rows = [{"id": "a", "text": f"Text {n}.", "recorded_at": f"2020-01-{n + 1:02d}"} for n in range(9)]
    for part in range(3):
        written = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows[part::3]), written)
        desk.put(f"{part}.parquet", written.getvalue())
    desk.put("last.jsonl", json.dumps({"id": "a", "text": "Text 9.", "recorded_at": "2020-02-01"}))
    job = await desk.ingest(history=True)
    assert not job.failures
    with desk.pipeline.catalog.read() as tx:
        found = sorted({row.recorded_from: row.text for row in document_versions(tx, *HERE, "a")}.items())
    assert {text for _, text in found} >= {"Text 9."} and len(found) == 10
