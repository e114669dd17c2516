"""Erasing a document and rebuilding the index, over real engines in one process, on both databases."""

import hashlib
import json
import random

import pytest
from sqlalchemy import select

from pipelines.advance import Readers
from pipelines.aggregate import Aggregator
from pipelines.encode import encode, wanted
from pipelines.erase import LOG, Eraser, replay_tombstones, tombstones
from pipelines.follow import Follower
from pipelines.rebuild import Rebuilder
from services.catalog import answers, erasing, events, jobs
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.reading import passages_at
from services.catalog.records import DocumentIn, FactIn, Generation, PassageIn
from services.catalog.state import ensure_generation, known_collections
from services.catalog.tables import events as log
from services.catalog.tables import metadata
from services.catalog.vectors import VectorFiles
from services.common.errors import Conflict, DocumentNotFound, InvalidDocument, Unavailable
from services.common.moment import Moment, now
from services.common.nodes.features import DOCUMENTS
from services.common.nodes.retriever import Query, Target
from services.common.nodes.scope import Scope
from services.common.nodes.usage import USAGE
from services.features.backends.feast import FeastBackend
from services.features.features import PointInTimeFeatures
from tests.fakes.encoder import FakeEncoder
from tests.fakes.retriever import index_directory, retriever_over

MODEL = "all-MiniLM-L6-v2"
GENERATION = Generation("g1", MODEL, 64)
TENANT, HERE = "local", "notes"


class Killed(BaseException):
    """Stands in for SIGKILL: nothing catches it."""


class Almanac:
    """A catalog and its readers in one directory."""

    def __init__(self, home, index, url):
        self.home, self.index = home, index
        self.catalog, self.files, self.encoder = Database(url), VectorFiles(home / "vectors"), FakeEncoder()
        self.retriever = retriever_over("edge", index, wait_seconds=0.2)
        self.backend = FeastBackend(home / "features")
        self.features = PointInTimeFeatures(self.backend, wait_seconds=0.2)
        self.readers = Readers(self.catalog, self.files, self.retriever, self.features)
        self.forgotten = []
        with self.catalog.write() as tx:
            ensure_generation(tx, GENERATION)

    @property
    def eraser(self):
        parts = (self.catalog, self.files, self.readers, self.retriever, self.features)
        return Eraser(*parts, self._forget, self.home / LOG)

    async def _forget(self, ids):
        self.forgotten += ids

    async def record(self, *rows, collection=HERE):
        items = wanted(rows, TENANT, collection)
        file = VectorFile(hashlib.sha256(repr(sorted(items)).encode()).hexdigest()[:32], MODEL, list(items))
        self.files.write(file.file_id, file.item_ids, await encode(self.encoder, MODEL, items.values(), 64))
        with self.catalog.write() as tx:
            recorder = Recorder(tx, TENANT, collection)
            for row in rows:
                recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row)
            newest = recorder.close(file)
        await self.readers.advance(GENERATION, TENANT, collection, newest)
        return newest

    def ask(self, doc_id, collection=HERE):
        with self.catalog.write() as tx:
            return erasing.ask(tx, TENANT, collection, doc_id)

    async def erase(self, doc_id):
        job = self.ask(doc_id)
        await self.work(self.eraser, job)
        return job

    async def work(self, worker, job):
        with self.catalog.write() as tx:
            taken = jobs.acquire(tx, job.job_id)
        await worker.run(taken, GENERATION)
        with self.catalog.write() as tx:
            jobs.finish(tx, job.job_id, jobs.DONE)

    async def hits(self, text, known_at, collection=HERE, target=Target.PASSAGES):
        scope = Scope(TENANT, collection, "g1", Moment(now(), known_at))
        [vector] = await encode(self.encoder, MODEL, [text], 64)
        found = (await self.retriever.search(Query(scope, target, text, vector, 50))).hits
        return [(hit.item_id, hit.doc_id, pytest.approx(hit.score, abs=1e-4)) for hit in found]

    async def described(self, doc_id, known_at):
        scope = Scope(TENANT, HERE, "g1", Moment(now(), known_at))
        return (await self.features.read(scope, DOCUMENTS, [doc_id]))[0].found

    def state(self, job):
        with self.catalog.read() as tx:
            return erasing.get(tx, job.job_id).state

    def text(self):
        """Everything in every table."""
        with self.catalog.read() as tx:
            rows = [tx.execute(select(table)).all() for table in metadata.sorted_tables]
        return repr(rows)

    async def close(self):
        await self.retriever.close()
        await self.backend.close()
        self.encoder.close()
        self.catalog.close()


@pytest.fixture
async def almanac(tmp_path, catalog_url):
    with index_directory() as index:
        opened = Almanac(tmp_path, index, catalog_url)
        yield opened
        await opened.close()


def document(doc_id, *parts, **fields):
    text = "\n".join(parts)
    passages, start = [], 0
    for ordinal, part in enumerate(parts):
        passages.append(PassageIn(ordinal, (), start, start + len(part), f"{doc_id}: {part}"))
        start += len(part) + 1
    return DocumentIn(doc_id, f"Title of {doc_id}", text, passages=tuple(passages), **fields)


async def filled(almanac):
    """Two versions of the document in a file with its neighbour, one alone, a fact, and answers that quote."""
    await almanac.record(document("secret", "the owl marker1", "a fox"), document("kept", "the owl sits", "a hare"))
    first = await almanac.record(document("secret", "the owl marker2", metadata={"colour": "marker3"}))
    newest = await almanac.record(FactIn("Where is the owl?", "In the tree."))
    cited = [{"n": 1, "doc_id": "secret", "quote": "the owl marker1", "title": "marker"}]
    with almanac.catalog.write() as tx:
        quoting = answers.create(tx, TENANT, HERE, {"text": "marker?"})
        answers.record(tx, quoting, 1, answers.DONE, {"answer": "marker1 [1]", "question": "?", "citations": cited})
        other = answers.create(tx, TENANT, HERE, {"text": "hare?"})
        answers.record(tx, other, 1, answers.DONE, {"answer": "hare [1]", "citations": [{"n": 1, "doc_id": "kept"}]})
        waiting = answers.create(tx, TENANT, HERE, {"text": "owl?"})
    return first, newest, (quoting, other, waiting)


async def test_an_erased_document_is_nowhere_at_no_moment_and_the_rest_is_as_it_was(almanac):
    first, newest, (quoting, other, waiting) = await filled(almanac)
    before = {at: await almanac.hits("owl", at) for at in (first, newest)}
    assert {doc for at in before for _, doc, _ in before[at]} == {"secret", "kept"}
    job = await almanac.erase("secret")
    for at in (first, newest):
        assert {item for item, _, _ in await almanac.hits("owl", at)} == {
            item for item, doc, _ in before[at] if doc == "kept"
        }
        assert not await almanac.described("secret", at) and await almanac.described("kept", at)
    assert "marker" not in almanac.text() and "the owl sits" in almanac.text()
    with almanac.catalog.read() as tx:
        emptied, kept = answers.get(tx, TENANT, quoting), answers.get(tx, TENANT, other)
        state, _ = answers.outcome(tx, waiting)
    assert emptied["erased"] and not emptied["answer"] and not emptied["citations"]
    assert kept["answer"] == "hare [1]" and state == answers.FAILED
    assert sorted(almanac.forgotten) == sorted([quoting, waiting])
    assert almanac.state(job) == erasing.DONE
    assert len(await almanac.hits("owl", newest, target=Target.QUESTIONS)) == 1


async def test_what_a_document_was_used_for_goes_with_it_and_so_do_notes_on_answers_that_cite_it(almanac):
    _, _, (quoting, other, _) = await filled(almanac)
    aggregator = Aggregator(Follower(almanac.catalog, almanac.files, None, almanac.readers, almanac.retriever), None)
    documents = ["secret", "kept"]
    with almanac.catalog.write() as tx:
        for answer in (quoting, other):
            assert events.judged(tx, TENANT, "", answer, events.Word(True, f"marker {answer}"), now())
        events.searched(tx, [events.Search(f"s{at}", TENANT, HERE, at, documents) for at in (1, now())])
    assert await aggregator.count() == 3
    before = await used(almanac, *documents)
    assert [row.values["helpful_ever"] for row in before] == [row.values["retrieved_ever"] for row in before] == [1, 1]
    await almanac.erase("secret")
    with almanac.catalog.write() as tx:
        events.searched(tx, [events.Search("late", TENANT, HERE, 1, documents)])
        told = tx.execute(select(log).where(log.c.kind.in_(events.KINDS))).all()
    assert "secret" not in repr(told) and f"marker {quoting}" not in repr(told) and f"marker {other}" in repr(told)
    assert await aggregator.count() == 1
    assert [row.found for row in await used(almanac, *documents)] == [False, True]
    await almanac.work(
        Rebuilder(almanac.catalog, almanac.readers, almanac.retriever, almanac.features), rebuild(almanac)
    )
    [gone, kept] = await used(almanac, *documents)
    assert not gone.found and kept.values["retrieved_ever"] == 2


async def used(almanac, *documents):
    """The rows of the view of usage in the newest record."""
    with almanac.catalog.read() as tx:
        [(_, _, newest)] = known_collections(tx)
    return await almanac.features.read(Scope(TENANT, HERE, "g1", Moment(now(), newest)), USAGE, list(documents))


def rebuild(almanac):
    with almanac.catalog.write() as tx:
        return erasing.ask_rebuild(tx, TENANT)


async def test_vectors_of_the_erased_document_are_gone_and_the_others_are_where_the_catalog_says(almanac):
    _, newest, _ = await filled(almanac)
    before = await almanac.hits("owl", newest)
    items = {item for item, doc, _ in before if doc == "secret"}
    held = {path.stem: set(almanac.files.read(path.stem)) for path in (almanac.home / "vectors").iterdir()}
    assert any(items & ids for ids in held.values())
    await almanac.erase("secret")
    after = {path.stem: set(almanac.files.read(path.stem)) for path in (almanac.home / "vectors").iterdir()}
    assert len(after) == 2 and not any(items & ids for ids in after.values())
    await almanac.retriever.drop("g1")
    await almanac.readers.advance(GENERATION, TENANT, HERE, newest)
    assert {doc for _, doc, _ in await almanac.hits("owl", newest)} == {"kept"}


@pytest.mark.parametrize("step", ["_catalog", "_answers", "_events", "_index", "_rewrite", "_features", "_database"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_erasure_killed_at_any_step_goes_on_where_it_was(almanac, monkeypatch, step, when):
    _, newest, _ = await filled(almanac)
    whole = getattr(Eraser, step)

    def kill(*given):
        if when == "after":
            result = whole(*given)
            if step == "_rewrite":
                raise Killed
            return _then_killed(result)
        raise Killed

    monkeypatch.setattr(Eraser, step, kill)
    job = almanac.ask("secret")
    with pytest.raises(Killed):
        await almanac.work(almanac.eraser, job)
    monkeypatch.setattr(Eraser, step, whole)
    assert almanac.state(job) != erasing.DONE
    with pytest.raises(InvalidDocument, match="being erased"), almanac.catalog.write() as tx:
        Recorder(tx, TENANT, HERE).document(document("secret", "once more"))
    with almanac.catalog.write() as tx:
        jobs.finish(tx, job.job_id, jobs.FAILED)
        assert jobs.retry(tx, TENANT, job.job_id).state == jobs.QUEUED
    await almanac.work(almanac.eraser, job)
    assert almanac.state(job) == erasing.DONE and "marker" not in almanac.text()
    assert {doc for _, doc, _ in await almanac.hits("owl", newest)} == {"kept"}
    assert len(list((almanac.home / "vectors").iterdir())) == 2


async def test_an_erasure_that_failed_is_queued_again_after_a_while(almanac, monkeypatch):
    await filled(almanac)
    job = almanac.ask("secret")
    for pause, state in ((60_000_000, jobs.FAILED), (0, jobs.QUEUED)):
        monkeypatch.setattr(erasing, "_PATIENCE_US", pause)
        with almanac.catalog.write() as tx:
            jobs.finish(tx, job.job_id, jobs.FAILED)
            erasing.resume(tx)
            assert jobs.by_id(tx, job.job_id).state == state
    await almanac.work(almanac.eraser, job)
    with almanac.catalog.write() as tx:
        erasing.resume(tx)
        assert jobs.by_id(tx, job.job_id).state == jobs.DONE


async def test_no_other_document_is_shown_otherwise_at_any_moment(almanac, seed):
    dice = random.Random(seed)
    names = [f"d{number}" for number in range(6)]
    records = []
    for number in range(24):
        start = dice.randrange(0, 90)
        row = document(dice.choice(names), f"the owl {number}", "the same owl", valid_from=start, valid_to=start + 30)
        records.append(await almanac.record(row))

    async def shown():
        """(as_of, known_at, document, passage) of everything that is found, in the index and in the catalog."""
        seen = set()
        for as_of, known_at in [(as_of, at) for as_of in range(0, 120, 7) for at in records[::3]]:
            moment = Moment(as_of, known_at)
            query = Query(Scope(TENANT, HERE, "g1", moment), Target.PASSAGES, "owl", None, 100)
            hits = {hit.item_id: hit.doc_id for hit in (await almanac.retriever.search(query)).hits}
            with almanac.catalog.read() as tx:
                assert set(passages_at(tx, TENANT, HERE, list(hits), moment)) == set(hits)
            seen |= {(as_of, known_at, doc, item) for item, doc in hits.items()}
        return seen

    before = await shown()
    await almanac.erase("d3")
    assert any(doc == "d3" for _, _, doc, _ in before)
    assert await shown() == {one for one in before if one[2] != "d3"}


async def _then_killed(work):
    await work
    raise Killed


async def test_what_is_erased_can_be_taken_in_anew(almanac):
    await filled(almanac)
    await almanac.erase("secret")
    newest = await almanac.record(document("secret", "the owl, a new text"))
    assert {doc for _, doc, _ in await almanac.hits("owl", newest)} == {"kept", "secret"}


async def test_an_erasure_waits_for_jobs_that_may_bring_the_document_back(almanac):
    await filled(almanac)
    with almanac.catalog.write() as tx:
        busy = jobs.create(tx, TENANT, HERE, "documents", {"files": []})
    with pytest.raises(Conflict, match=busy.job_id):
        almanac.ask("secret")
    with almanac.catalog.write() as tx:
        jobs.cancel(tx, TENANT, busy.job_id)
    first = almanac.ask("secret")
    assert almanac.ask("secret").job_id == first.job_id
    with pytest.raises(DocumentNotFound):
        almanac.ask("nothing")


async def test_uploads_kept_for_a_retry_go_with_the_document(almanac):
    await filled(almanac)
    upload = almanac.home / "uploads" / "one" / "0000"
    upload.parent.mkdir(parents=True)
    upload.write_text("marker")
    with almanac.catalog.write() as tx:
        job = jobs.create(tx, TENANT, HERE, "documents", {"files": [{"path": str(upload), "name": "a.jsonl"}]})
        jobs.acquire(tx, job.job_id)
        failures = [{"source": "a", "line": 1, "id": doc, "reason": f"marker of {doc}"} for doc in ("secret", "kept")]
        jobs.progress(tx, job.job_id, 2, {"failed": 2}, failures)
        jobs.finish(tx, job.job_id, jobs.FAILED)
    await almanac.erase("secret")
    with almanac.catalog.read() as tx:
        assert [one["reason"] for one in jobs.by_id(tx, job.job_id).failures] == ["erased", "marker of kept"]
    assert not upload.parent.exists()


async def test_hits_of_a_document_that_is_being_erased_are_left_out_not_called_a_violation(almanac):
    from services.orchestrator.graph.nodes import Nodes
    from services.orchestrator.graph.search import find_passages
    from tests.fakes.generator import FakeGenerator

    _, newest, _ = await filled(almanac)
    job = almanac.ask("secret")
    with almanac.catalog.write() as tx:
        erasing.delete_document(tx, erasing.get(tx, job.job_id))
    nodes = Nodes(almanac.catalog, almanac.encoder, almanac.retriever, almanac.features, FakeGenerator())
    scope = Scope(TENANT, HERE, "g1", Moment(now(), newest))
    found = await find_passages(nodes, scope, "owl", None, 10, {})
    assert {hit.located.doc_id for hit in found.hits} == {"kept"}


async def test_tombstones_are_replayed_over_a_catalog_that_was_restored(almanac):
    await filled(almanac)
    await almanac.erase("kept")
    log = almanac.home / LOG
    [row] = tombstones(log)
    assert (row["doc_id"], row["collection"]) == ("kept", HERE)
    assert replay_tombstones(almanac.catalog, log) == []
    await almanac.record(document("kept", "taken in anew"))
    assert replay_tombstones(almanac.catalog, log) == []
    with log.open("a") as file:  # as if the backup were older than this erasure
        file.write(json.dumps({**row, "doc_id": "secret", "erased_at": now()}) + '\n{"broken')
    [job_id] = replay_tombstones(almanac.catalog, log)
    assert replay_tombstones(almanac.catalog, log) == [job_id]
    with almanac.catalog.read() as tx:
        job = jobs.by_id(tx, job_id)
    await almanac.work(almanac.eraser, job)
    assert "marker" not in almanac.text()
    assert replay_tombstones(almanac.catalog, log) == []


async def test_a_rebuild_gives_the_same_hits_and_encodes_nothing(almanac, monkeypatch):
    first, newest, _ = await filled(almanac)
    asked = [(text, at) for text in ("owl marker", "fox", "hare sits") for at in (first, newest)]
    before = [await almanac.hits(*one) for one in asked]
    queries = len(asked)
    for path in sorted(almanac.index.glob("**/*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    calls = counted(almanac, monkeypatch)
    job = rebuild_job(almanac)
    await almanac.work(Rebuilder(almanac.catalog, almanac.readers, almanac.retriever, almanac.features), job)
    assert calls == []
    assert [await almanac.hits(*one) for one in asked] == before and len(calls) == queries
    assert await almanac.described("kept", newest) and await almanac.described("secret", first)
    assert [path.name for path in (almanac.index / "index").iterdir()] == ["g1"]
    later = await almanac.record(document("kept", "the owl again"))
    assert "kept" in {doc for _, doc, _ in await almanac.hits("owl again", later)}


async def test_a_rebuild_waits_for_an_erasure(almanac):
    await filled(almanac)
    almanac.ask("secret")
    job = rebuild_job(almanac)
    with pytest.raises(Unavailable, match="being erased"):
        await almanac.work(Rebuilder(almanac.catalog, almanac.readers, almanac.retriever, almanac.features), job)


def rebuild_job(almanac):
    with almanac.catalog.write() as tx:
        return jobs.create(tx, TENANT, "", erasing.REBUILD, {})


def counted(almanac, monkeypatch):
    calls, whole = [], almanac.encoder.encode

    async def encoding(*given):
        calls.append(given)
        return await whole(*given)

    monkeypatch.setattr(almanac.encoder, "encode", encoding)
    return calls
