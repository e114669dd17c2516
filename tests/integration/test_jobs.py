"""Ingestion jobs in a worker's loop, over a pipeline that does as it is told: slots, waits, cancels, uploads."""

import asyncio
import gzip
import json
import time

import pytest

from pipelines.load import load
from pipelines.parsers.pool import ParserPool
from pipelines.records import Source
from services.catalog import jobs
from services.catalog.engine import Database
from services.catalog.records import Generation
from services.catalog.state import ensure_generation
from services.common.errors import Unavailable
from services.orchestrator import ingesting, uploads
from services.orchestrator.ingesting import Ingestion, Policy
from tests.support import eventually

POLICY = Policy(retries=3, attempts=5, small=2, bulk=1)


class Pipeline:
    """Handles a row every `seconds`; before each it does what `before` says."""

    def __init__(self, catalog, parsers):
        self.catalog, self.parsers, self.seconds, self.order = catalog, parsers, 0.0, []
        self.before = lambda job, row: None

    async def run(self, job, generation):
        self.order.append(job.job_id)
        for row in range(job.cursor, job.request.get("rows", 1)):
            self.before(job, row)
            await asyncio.sleep(self.seconds)
            failed = {"failed": len(job.request["failures"])} if "failures" in job.request else {}
            with self.catalog.write() as tx:
                jobs.progress(tx, job.job_id, row + 1, failed, job.request.get("failures", ()), job.attempts)


@pytest.fixture
def catalog(tmp_path):
    opened = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    with opened.write() as tx:
        ensure_generation(tx, Generation("g1", "test", 2))
    yield opened
    opened.close()


@pytest.fixture
def pipeline(catalog, monkeypatch):
    monkeypatch.setattr(ingesting, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(ingesting, "RENEW_SECONDS", 0.1)
    parsers = ParserPool()
    yield Pipeline(catalog, parsers)
    parsers.close()


@pytest.fixture
def make(catalog, tmp_path):
    def make(files=None, priority=jobs.SMALL, **request):
        with catalog.write() as tx:
            job = jobs.create(tx, "t", "c", "documents", {}, priority=priority).job_id
            directory = tmp_path / "uploads" / job
            directory.mkdir(parents=True)
            stored = []
            for number, (name, data) in enumerate((files or {"a.md": b"# A"}).items()):
                (directory / str(number)).write_bytes(data)
                stored.append({"path": str(directory / str(number)), "name": name})
            jobs.amend(tx, job, files=stored, **request)
        return job

    return make


def state_of(catalog, job):
    with catalog.read() as tx:
        return jobs.by_id(tx, job)


async def test_a_small_job_is_done_while_a_bulk_one_runs_and_the_next_bulk_one_waits(catalog, pipeline, make):
    pipeline.seconds = 0.02
    first, second = make(priority=jobs.BULK, rows=100), make(priority=jobs.BULK)
    small = make()
    ingestion = Ingestion(pipeline, POLICY)
    begun = asyncio.Event()
    pipeline.before = lambda job, row: begun.set()
    running = asyncio.create_task(ingestion.take_up(first))
    await begun.wait()
    # A task does not hold a thread while it waits for a slot: this returns at once, as does the next when it is done.
    await ingestion.take_up(second)
    await ingestion.take_up(small)
    assert [state_of(catalog, job).state for job in (first, second, small)] == ["running", "queued", "done"]
    await running
    assert [state_of(catalog, job).state for job in (first, second)] == ["done", "done"]
    assert pipeline.order == [first, small, second]


async def test_what_does_not_answer_is_waited_for_and_named_meanwhile(catalog, pipeline, make):
    notes, job = [], make(rows=3)

    def before(current, row):
        notes.append(state_of(catalog, job).note)
        if row == 1 and len(notes) < 4:
            raise Unavailable("the encoder does not answer")

    pipeline.before = before
    await Ingestion(pipeline, POLICY).work(job)
    assert (state_of(catalog, job).state, state_of(catalog, job).cursor) == ("done", 3)
    assert notes[0] == "" and notes[2:4] == [f"the encoder does not answer; try {n} of 3 follows" for n in (1, 2)]
    assert notes[-1] == "" == state_of(catalog, job).note


async def test_what_never_answers_fails_the_job_with_the_reason(catalog, pipeline, make):
    def before(current, row):
        raise Unavailable("the encoder does not answer")

    pipeline.before = before
    job = make()
    await Ingestion(pipeline, POLICY).work(job)
    failed = state_of(catalog, job)
    assert (failed.state, failed.error, len(pipeline.order)) == ("failed", "the encoder does not answer", 4)


async def test_what_nobody_foresaw_fails_the_job_and_points_to_the_log(catalog, pipeline, make):
    pipeline.before = lambda job, row: 1 / 0
    job = make()
    await Ingestion(pipeline, POLICY).work(job)
    assert state_of(catalog, job).state == "failed" and "log" in state_of(catalog, job).error


async def test_a_cancelled_job_stops_within_seconds_even_where_nothing_is_committed(catalog, pipeline, make, tmp_path):
    pipeline.seconds = 600
    job = make()
    working = asyncio.create_task(Ingestion(pipeline, POLICY).work(job))
    await asyncio.sleep(0.1)
    with catalog.write() as tx:
        jobs.cancel(tx, "t", job)
    async with asyncio.timeout(3):
        await working
    assert state_of(catalog, job).state == "cancelled" and (tmp_path / "uploads" / job).exists()


async def test_a_worker_that_stops_gives_its_job_back_and_the_next_goes_on_with_it(catalog, pipeline, make):
    pipeline.seconds = 0.05
    job, waiting, told = make(rows=20), make(), []
    begun = asyncio.Event()
    pipeline.before = lambda job, row: begun.set() if row == 3 else None
    stopping = Ingestion(pipeline, Policy(retries=3, attempts=1, small=1, bulk=1), hand_on=told.append)
    working = asyncio.create_task(stopping.take_up(job))
    await begun.wait()
    stopping.stop()
    async with asyncio.timeout(3):
        await working
    given_back = state_of(catalog, job)
    assert (given_back.state, given_back.cursor >= 3, given_back.lease_until, told) == ("queued", True, 0, [job])
    assert state_of(catalog, waiting).state == "queued"
    pipeline.seconds = 0.0
    await Ingestion(pipeline, Policy(retries=3, attempts=1, small=1, bulk=1)).work(job)
    assert (state_of(catalog, job).state, state_of(catalog, job).cursor) == ("done", 20)


async def test_the_upload_goes_when_all_is_in_and_shrinks_to_what_failed(catalog, pipeline, make, tmp_path):
    clean = make()
    lines = b'{"id": "good"}\n{"id": "bad"}\n{"id": "twice"}\n'
    files = {"a.md": b"# A", "b.jsonl": lines, "c.jsonl.gz": gzip.compress(lines), "d.md": b"# D"}
    failures = [
        {"source": "b.jsonl", "line": 2, "reason": "bad"},
        {"source": "b.jsonl", "line": 3, "reason": "duplicate id 'twice'"},
        {"source": "c.jsonl.gz", "line": 1, "reason": "bad"},
        {"source": "d.md", "line": None, "reason": "bad"},
    ]
    job = make(files, failures=failures)
    for one in (clean, job):
        await Ingestion(pipeline, POLICY).work(one)
    uploads.keep_failed(state_of(catalog, job))
    here = tmp_path / "uploads" / job
    assert not (tmp_path / "uploads" / clean).exists()
    assert [(here / str(n)).read_bytes() for n in (0, 1, 3)] == [b"", b'\n{"id": "bad"}\n\n', b"# D"]
    assert gzip.decompress((here / "2").read_bytes()) == b'{"id": "good"}\n\n\n'


def test_the_reason_of_a_duplicate_begins_as_retries_expect(tmp_path, pipeline):
    (tmp_path / "twice.jsonl").write_text(2 * (json.dumps({"id": "a", "text": "x", "valid_from": "2020-01-01"}) + "\n"))
    [_, second] = load([Source(str(tmp_path / "twice.jsonl"), "twice.jsonl")], False, pipeline.parsers)
    assert second.reason.startswith(uploads.DUPLICATE)


def test_uploads_that_no_job_needs_are_swept(catalog, make, tmp_path, monkeypatch):
    kept = {name: make() for name in ("queued", "failed", "partly")}
    spent = {name: make() for name in ("done", "retried", "expired")}
    with catalog.write() as tx:
        for job in (kept["partly"], spent["retried"]):
            jobs.progress(tx, job, 1, {"failed": 1}, [], jobs.acquire(tx, job).attempts)
        jobs.amend(tx, spent["retried"], retried_as="x")
        for job in (kept["partly"], spent["done"], spent["retried"]):
            jobs.finish(tx, job, jobs.DONE)
        jobs.finish(tx, kept["failed"], jobs.FAILED)
        monkeypatch.setattr(jobs, "now", lambda: int((time.time() - 8 * 86_400) * 1e6))
        jobs.finish(tx, spent["expired"], jobs.CANCELLED)
    (tmp_path / "uploads" / "fresh-without-a-job").mkdir()
    assert uploads.tidy(catalog, tmp_path / "uploads", 7) == 3
    assert {path.name for path in (tmp_path / "uploads").iterdir()} == {*kept.values(), "fresh-without-a-job"}
    assert eventually(lambda: uploads.tidy(catalog, tmp_path / "nowhere", 7) == 0, 1)
