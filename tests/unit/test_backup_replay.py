"""Backed up while it is written to and restored elsewhere: answers are the same, and what was erased stays erased.

In one process, over a real index; tests/e2e/test_backup.py does the same with a stack.
"""

import threading

import pytest

from pipelines.advance import Readers
from pipelines.encode import encode, wanted
from pipelines.erase import LOG, Eraser
from services.admin.backup import make
from services.admin.backup_restore import restore
from services.admin.settings import AdminSettings
from services.catalog import erasing, jobs
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.records import DocumentIn, FactIn, PassageIn
from services.catalog.state import ensure_generation, known_collections, resolve_moment
from services.catalog.vectors import VectorFiles
from services.common.moment import OPEN_END, now
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.run import answer
from services.orchestrator.graph.search import find_passages
from tests.fakes.encoder import FakeEncoder
from tests.fakes.generator import FakeGenerator
from tests.fakes.retriever import index_directory, retriever_over
from tests.fakes.world import GENERATIONS, MODEL, tattle
from tests.support import eventually

TENANT, HERE = "local", "notes"
GENERATION = GENERATIONS["memory"]
ASKED = ("Who keeps the lighthouse of north?", "Who keeps the lighthouse of south?", "Who leads the harbour?")


class Running:
    """A home with its readers, as the worker has them; index and features begin empty."""

    def __init__(self, home, url, index):
        self.settings = AdminSettings(home=home, catalog_url=url)
        self.catalog, self.files = Database(self.settings.catalog_url), VectorFiles(self.settings.vectors_dir)
        self.encoder, self.retriever = FakeEncoder(), retriever_over("memory", index)
        self.features = PointInTimeFeatures(MemoryBackend())
        self.readers = Readers(self.catalog, self.files, self.retriever, self.features)
        generator = FakeGenerator(tattle)
        self.nodes = Nodes(self.catalog, self.encoder, self.retriever, self.features, generator)
        with self.catalog.write() as tx:
            ensure_generation(tx, GENERATION)

    async def record(self, *rows, collection=HERE):
        items = wanted(rows, TENANT, collection)
        vectors = await encode(self.encoder, MODEL, items.values(), 64)
        self.commit(rows, items, vectors, collection)
        await self.catch_up()

    def commit(self, rows, items, vectors, collection):
        file = VectorFile(f"file-{now()}", MODEL, list(items))
        self.files.write(file.file_id, file.item_ids, vectors)
        with self.catalog.write() as tx:
            recorder = Recorder(tx, TENANT, collection)
            for row in rows:
                recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row)
            recorder.close(file)

    def known(self):
        with self.catalog.read() as tx:
            return known_collections(tx)

    async def catch_up(self):
        """What the worker does when it starts, and after every commit."""
        for tenant, collection, newest in self.known():
            await self.readers.advance(GENERATION, tenant, collection, newest)

    async def erase(self, doc_id):
        with self.catalog.write() as tx:
            job = erasing.ask(tx, TENANT, HERE, doc_id)
        await self.work(job.job_id)

    async def work(self, job_id):
        async def forget(ids):
            pass

        parts = (self.catalog, self.files, self.readers, self.retriever, self.features, forget)
        with self.catalog.write() as tx:
            taken = jobs.acquire(tx, job_id)
        await Eraser(*parts, self.settings.home / LOG).run(taken, GENERATION)
        with self.catalog.write() as tx:
            jobs.finish(tx, job_id, jobs.DONE)

    def moment(self, known_at=None):
        with self.catalog.read() as tx:
            return resolve_moment(tx, TENANT, HERE, GENERATION, OPEN_END, known_at)

    async def answers(self, moments):
        async def emit(event):
            pass

        found = []
        for moment in moments:
            for text in ASKED:
                given = await answer(self.nodes, Question("a", TENANT, HERE, text, moment, GENERATION, {}), emit)
                told = given.to_json()
                found.append({name: told[name] for name in ("answer", "citations", "moment", "grounding")})
        return found

    async def shown(self, moment):
        scope = Question("a", TENANT, HERE, "secret", moment, GENERATION, {}).scope
        [vector] = await encode(self.encoder, MODEL, ["secret"], 64)
        return {hit.located.doc_id for hit in (await find_passages(self.nodes, scope, "secret", vector, 50, {})).hits}

    async def close(self):
        await self.retriever.close()
        self.encoder.close()
        self.catalog.close()


def document(doc_id, text):
    return DocumentIn(doc_id, doc_id, text, passages=(PassageIn(0, (), 0, len(text), f"{doc_id}: {text}"),))


def writing(running, ending, vectors):
    number = 0
    while not ending.wait(0.005):
        rows = [document(f"load-{number}", f"Load {number} was put on record.")]
        running.commit(rows, wanted(rows, TENANT, "load"), vectors, "load")
        number += 1


@pytest.mark.slow
async def test_answers_are_the_same_after_a_restore_and_what_was_erased_stays_erased(tmp_path, catalog_url, postgres):
    with index_directory() as before, index_directory() as after:
        old = Running(tmp_path / "old", catalog_url, before)
        await old.record(
            document("north", "The lighthouse of north is kept by Ada Birch."), document("secret-1", "secret")
        )
        moments = [old.moment()]
        await old.record(
            document("north", "The lighthouse of north is kept by Bo Alder."), document("secret-2", "secret")
        )
        await old.record(document("south", "The lighthouse of south is kept by Cy Rowan."))
        await old.record(FactIn("Who leads the harbour?", "Di Maple"))
        moments.append(old.moment())
        await old.erase("secret-1")
        ending, vectors = threading.Event(), await encode(old.encoder, MODEL, ["Load"], 64)
        load = threading.Thread(target=writing, args=(old, ending, vectors))
        load.start()
        try:
            eventually(lambda: "load" in {name for _, name, _ in old.known()}, 20)
            make(old.settings, tmp_path / "b.tar", lambda *_: None)
        finally:
            ending.set()
            load.join()
        assert await old.shown(moments[1]) >= {"secret-2"}
        await old.erase("secret-2")
        asked = await old.answers(moments)
        assert {one["grounding"] for one in asked} >= {"quoted"} and asked[0] != asked[3], asked
        log, url = old.settings.home / LOG, "" if old.catalog.engine.dialect.name == "postgresql" else postgres.create()
        fresh = AdminSettings(home=tmp_path / "new", catalog_url=url)
        done = restore(fresh, tmp_path / "b.tar", log, lambda *_: None)
        new = Running(tmp_path / "new", url, after)
        await new.catch_up()
        assert not await new.shown(moments[1]) & {"secret-1", "secret-2"}  # already before the job has run
        for job_id in done.erased:
            await new.work(job_id)
        assert len(done.erased) == 1 and not await new.shown(moments[1]) & {"secret-1", "secret-2"}
        assert await new.answers([new.moment(moment.known_at) for moment in moments]) == asked
        await new.record(document("later", "Recording goes on."))
        for one in (old, new):
            await one.close()
