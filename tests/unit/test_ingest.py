"""Ingestion in process: what is encoded and indexed, how the stages run side by side, and what a crash leaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from pipelines.advance import Readers
from pipelines.ingest import Pipeline
from services.catalog import jobs
from services.catalog.engine import Database
from services.catalog.records import Generation
from services.catalog.state import ensure_generation
from services.catalog.tables import passage_extents, passages, vector_files, vectors
from services.catalog.vectors import VectorFiles
from services.common.errors import Conflict, Unavailable
from services.common.moment import OPEN_END
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.retriever.backends.memory import MemoryEngine
from services.retriever.retriever import IndexRetriever
from tests.fakes.encoder import FakeEncoder

GENERATION = Generation("g1", "all-MiniLM-L6-v2", 64)


class CountingEncoder(FakeEncoder):
    """Remembers every text; `gate` holds the calls back, `breaks_after` so many calls the node is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.calls = 0
        self.breaks_after = 10_000
        self.gate = asyncio.Event()
        self.gate.set()

    async def encode(self, model, kind, texts):
        self.calls += 1
        self.texts += texts
        if self.calls > self.breaks_after:
            raise Unavailable("the encoder is gone")
        await self.gate.wait()
        return await super().encode(model, kind, texts)


class CountingRetriever(IndexRetriever):
    """Remembers every point and end it is sent."""

    def __init__(self, directory: Path) -> None:
        super().__init__(MemoryEngine())
        self.points: list[str] = []
        self.closes: list[str] = []
        self.applied = 0
        self.broken = False

    async def apply(self, generation, stretch, batches):
        self.applied += 1
        if self.broken:
            raise Unavailable("the retriever is gone")

        async def counted() -> AsyncIterator:
            async for batch in batches:
                self.points += [point.point_id for point in batch.upserts]
                self.closes += [close.point_id for close in batch.closes]
                yield batch

        return await super().apply(generation, stretch, counted())


class CountingFeatures(PointInTimeFeatures):
    def __init__(self) -> None:
        super().__init__(MemoryBackend())
        self.appended = 0

    async def append(self, view, stretch, batches):
        self.appended += 1
        return await super().append(view, stretch, batches)


@dataclass
class Bench:
    directory: Path
    catalog: Database
    encoder: CountingEncoder
    retriever: CountingRetriever
    features: CountingFeatures
    files: int = field(default=0)

    @property
    def vectors(self) -> VectorFiles:
        return VectorFiles(self.directory / "vectors")

    @property
    def pipeline(self) -> Pipeline:
        readers = Readers(self.catalog, self.vectors, self.retriever, self.features)
        return Pipeline(self.catalog, self.vectors, self.encoder, readers, lambda text: len(text.split()) + 2, 60)

    def job(self, *rows: dict[str, str]) -> jobs.Job:
        path = self.directory / f"{self.files}.jsonl"
        self.files += 1
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        request = {"files": [{"path": str(path), "name": path.name}]}
        with self.catalog.write() as tx:
            job = jobs.create(tx, "acme", "notes", "documents", request)
            taken = jobs.acquire(tx, job.job_id)
        assert taken is not None
        return taken

    async def work(self, job: jobs.Job) -> jobs.Job:
        """Work a job from where it stands; returns it as it then is."""
        try:
            await self.pipeline.run(self.read(job), GENERATION)
        finally:
            job = self.read(job)
        return job

    def read(self, job: jobs.Job) -> jobs.Job:
        with self.catalog.read() as tx:
            return jobs.by_id(tx, job.job_id)

    async def ingest(self, *rows: dict[str, str]) -> jobs.Job:
        self.encoder.texts.clear()
        self.retriever.points.clear()
        self.retriever.closes.clear()
        self.retriever.applied = self.features.appended = 0
        return await self.work(self.job(*rows))

    def standing(self) -> dict[str, str]:
        """Point id → passage id of what the newest record holds."""
        table = passage_extents.c
        with self.catalog.read() as tx:
            rows = tx.execute(select(table.point_id, table.passage_id).where(table.recorded_to == OPEN_END))
            return {row.point_id: row.passage_id for row in rows}

    def number(self, table) -> int:
        with self.catalog.read() as tx:
            return int(tx.execute(select(func.count()).select_from(table)).scalar_one())


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    catalog = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    with catalog.write() as tx:
        ensure_generation(tx, GENERATION)
    encoder = CountingEncoder()
    yield Bench(tmp_path, catalog, encoder, CountingRetriever(tmp_path / "index"), CountingFeatures())
    encoder.close()
    catalog.close()


def paragraph(section: int, number: int) -> str:
    """One that fills a passage of its own."""
    return " ".join(f"s{section}p{number}w{word}" for word in range(45)) + "."


def document(sections: int = 20, each: int = 10) -> list[list[str]]:
    return [[paragraph(section, number) for number in range(each)] for section in range(sections)]


def row(sections: list[list[str]], doc_id: str = "long") -> dict[str, str]:
    text = "".join(f"# Section {number}\n\n" + "\n\n".join(body) + "\n\n" for number, body in enumerate(sections))
    return {"id": doc_id, "title": "A long one", "text": text}


def pages(number: int, passages: int = 10) -> list[dict[str, str]]:
    return [
        row([[f"page {page} " + paragraph(page, n) for n in range(passages)]], f"page-{page}") for page in range(number)
    ]


async def test_the_same_set_again_encodes_nothing_and_writes_nothing(bench):
    first = await bench.ingest(*pages(70))
    assert first.counts["encoded"] == len(bench.encoder.texts) == len(bench.retriever.points) == 700
    files = bench.number(vector_files)
    second = await bench.ingest(*pages(70))
    assert second.counts["skipped"] == 70 and second.counts["encoded"] == second.counts["passages"] == 0
    assert bench.encoder.texts == [] and bench.retriever.applied == bench.features.appended == 0
    assert bench.number(vector_files) == files == len(list((bench.directory / "vectors").iterdir()))


async def test_an_edited_paragraph_and_an_inserted_one_cost_their_sections_only(bench, capsys):
    sections = document()
    await bench.ingest(row(sections))
    before = bench.standing()
    assert len(before) == 200
    sections[7][4] = "A changed paragraph. " + sections[7][4]
    changed = await bench.ingest(row(sections))
    encoded = {"one paragraph changed": list(bench.encoder.texts)}
    assert all("Section 7" in text for text in bench.encoder.texts)
    assert 1 <= len(bench.encoder.texts) <= 2 and changed.counts["encoded"] == len(bench.encoder.texts)
    middle = bench.standing()
    sections[0].insert(0, paragraph(99, 0))
    await bench.ingest(row(sections))
    encoded["one paragraph inserted at the top"] = list(bench.encoder.texts)
    assert all("Section 0" in text for text in bench.encoder.texts)
    assert 1 <= len(bench.encoder.texts) <= 2
    after = bench.standing()
    kept = before.items() & after.items()
    assert len(kept) >= 197 and not {point for point, _ in kept} & set(bench.retriever.points)
    assert set(bench.retriever.points) == after.keys() - middle.keys()
    with capsys.disabled():
        print({edit: f"{len(texts)} of 200 passages encoded" for edit, texts in encoded.items()})


async def test_a_passage_that_stays_keeps_its_vector_and_its_points(bench):
    sections = document(4, 5)
    await bench.ingest(row(sections))
    standing, held = bench.standing(), await located(bench)
    sections[3][0] = "Another beginning. " + sections[3][0]
    await bench.ingest(row(sections))
    again = await located(bench)
    gone = set(standing) - set(bench.standing())
    assert 1 <= len(gone) <= 2 and set(bench.retriever.closes) == gone
    assert {item: again[item] for item in held} == held


async def located(bench: Bench) -> dict[str, str]:
    with bench.catalog.read() as tx:
        return {row.item_id: row.file_id for row in tx.execute(select(vectors.c.item_id, vectors.c.file_id))}


async def test_a_text_that_two_batches_need_is_encoded_once(bench):
    same = pages(40, 6)
    later = [{**page, "valid_from": "2020-01-01"} for page in same]
    job = await bench.ingest(*[{**page, "valid_from": "2010-01-01"} for page in same], *later)
    assert job.counts["encoded"] == len(bench.encoder.texts) == len(set(bench.encoder.texts)) == 240


async def test_the_next_batches_wait_at_the_encoder_and_no_more_than_two_calls_do(bench):
    bench.encoder.gate.clear()
    working = asyncio.create_task(bench.work(bench.job(*pages(200))))
    await until(lambda: bench.encoder.calls == 2)
    await asyncio.sleep(0.2)
    assert bench.encoder.calls == 2, "two calls at once keep the encoder busy; more would only pile up"
    bench.encoder.gate.set()
    job = await working
    assert job.cursor == 200 and bench.number(passages) == 2000


async def test_memory_holds_a_few_batches_however_long_the_job_is(bench, monkeypatch):
    read = 0
    chunked = Pipeline.chunked

    def counted(pipeline, loaded):
        nonlocal read
        read += 1
        return chunked(pipeline, loaded)

    monkeypatch.setattr(Pipeline, "chunked", counted)
    bench.encoder.gate.clear()
    working = asyncio.create_task(bench.work(bench.job(*pages(400))))
    await until(lambda: bench.encoder.calls == 2)
    await asyncio.sleep(1)
    assert read < 250, "the reader must stop while the encoder is busy"
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@pytest.mark.parametrize("calls", [1, 3, 6])
async def test_a_job_goes_on_where_it_was_and_encodes_nothing_twice_that_was_committed(bench, calls):
    bench.encoder.breaks_after = calls
    job = bench.job(*pages(90))
    with pytest.raises(Unavailable):
        await bench.work(job)
    stands = bench.read(job)
    committed = bench.number(vectors)
    bench.encoder.texts.clear()
    bench.encoder.breaks_after = 10_000
    job = await bench.work(job)
    assert len(bench.encoder.texts) == 900 - committed and stands.cursor < 90 == job.cursor
    assert (job.counts["versions"], job.counts["encoded"], job.counts["documents"]) == (90, 900, 90)
    assert len(bench.standing()) == len(set(bench.standing().values())) == 900
    # A stretch whose sending was cut off is sent again; the index takes each point once.
    assert set(bench.retriever.points) == set(bench.standing())


async def test_a_reader_that_is_gone_stops_the_job_with_its_own_error(bench):
    bench.retriever.broken = True
    job = bench.job(*pages(90))
    with pytest.raises(Unavailable, match="the retriever is gone"):
        await bench.work(job)
    bench.retriever.broken = False
    await bench.work(job)
    assert bench.read(job).cursor == 90 and set(bench.retriever.points) == set(bench.standing())


async def test_a_cancelled_job_stops_at_once_and_commits_no_more(bench):
    bench.encoder.gate.clear()
    job = bench.job(*pages(90))
    working = asyncio.create_task(bench.work(job))
    await until(lambda: bench.encoder.calls == 2)
    with bench.catalog.write() as tx:
        jobs.finish(tx, job.job_id, jobs.CANCELLED)
    bench.encoder.gate.set()
    with pytest.raises(Conflict):
        await asyncio.wait_for(working, 10)
    assert bench.read(job).cursor == 0 and bench.number(passages) == 0


async def test_a_run_that_fell_behind_commits_nothing_twice(bench):
    job = bench.job(*pages(5))
    stale = replace(bench.read(job))
    await bench.work(job)
    with pytest.raises(Conflict):
        await bench.pipeline.run(stale, GENERATION)
    assert bench.number(passages) == 50


async def test_the_record_follows_the_order_of_the_rows(bench):
    await bench.ingest(*pages(90))
    table = passage_extents.c
    with bench.catalog.read() as tx:
        query = select(table.doc_id, table.recorded_from).distinct().order_by(table.recorded_from)
        assert [found.doc_id for found in tx.execute(query)] == [f"page-{page}" for page in range(90)]


async def until(check) -> None:
    for _ in range(1_000):
        if check():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen in time")
