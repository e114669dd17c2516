"""Almanac in one process over memory backends, with two encoders of different widths, for tests of re-indexing."""

from __future__ import annotations

from pipelines.advance import Readers
from pipelines.follow import Follower
from pipelines.reindex import Builder
from pipelines.verify import Verifier
from services.catalog import generations, jobs
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.probing import contents
from services.catalog.records import DocumentIn, FactIn, Generation, PassageIn
from services.catalog.state import ensure_generation, known_collections, live_generation
from services.catalog.vectors import VectorFiles
from services.common.nodes.funnel import PLAIN
from services.encoder.backends.memory import MemoryBackend
from services.encoder.encoder import ModelEncoder
from services.features.backends.memory import MemoryBackend as MemoryFeatures
from services.features.features import PointInTimeFeatures
from tests.fakes.encoder import encoder_model
from tests.fakes.retriever import retriever_over

FIRST, SECOND = "all-MiniLM-L6-v2", "hashed-24"
TENANT, HERE = "local", "notes"
WORDS = ("owl fox hare wren", "toad newt lynx boar", "stoat raven heron otter", "badger marten kestrel vole")
WORDS = [word for words in WORDS for word in words.split()]


class Almanac:
    """A catalog and its readers, with a live generation g1 of the first encoder."""

    def __init__(self, home):
        self.home = home
        self.catalog, self.files = Database(f"sqlite:///{home / 'catalog.db'}"), VectorFiles(home / "vectors")
        models = [encoder_model(FIRST, 48), encoder_model(SECOND, 24)]
        self.encoder = ModelEncoder(MemoryBackend(), {model.name: model for model in models})
        self.retriever = retriever_over("memory", home, wait_seconds=0.2)
        self.features = PointInTimeFeatures(MemoryFeatures())
        self.readers = Readers(self.catalog, self.files, self.retriever, self.features)
        self.follower = Follower(self.catalog, self.files, self.encoder, self.readers, self.retriever)
        self.builder = Builder(self.catalog, self.files, self.follower, self.retriever)
        self.verifier = Verifier(self.catalog, self.encoder, self.retriever, self.follower)
        with self.catalog.write() as tx:
            ensure_generation(tx, Generation("g1", FIRST, 48))

    @property
    def live(self):
        with self.catalog.read() as tx:
            return live_generation(tx)

    async def record(self, *rows, collection=HERE):
        with self.catalog.write() as tx:
            recorder = Recorder(tx, TENANT, collection)
            for row in rows:
                recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row)
            newest = recorder.close()
        await self.follower.bring_live(self.live, TENANT, collection, newest)
        return newest

    def start(self, encoder=FIRST, dimensions=48, funnel=PLAIN):
        with self.catalog.write() as tx:
            made = generations.start(tx, encoder, dimensions, funnel)
            return made, generations.ask_reindex(tx, TENANT, made)

    async def work(self, worker, job):
        with self.catalog.write() as tx:
            taken = jobs.acquire(tx, job.job_id)
        await worker.run(taken, self.live)
        with self.catalog.write() as tx:
            jobs.finish(tx, job.job_id, jobs.DONE)
            return jobs.by_id(tx, job.job_id)

    async def built(self, **asked):
        made, job = self.start(**asked)
        await self.work(self.builder, job)
        return made

    async def verify(self, name):
        with self.catalog.write() as tx:
            job = generations.ask_verify(tx, TENANT, name)
        await self.work(self.verifier, job)
        return self.standing(name).verdict

    def standing(self, name):
        with self.catalog.read() as tx:
            return generations.standing(tx, name)

    def interrupted(self, job):
        """Its worker died: the lease runs out."""
        with self.catalog.write() as tx:
            jobs.finish(tx, job.job_id, jobs.FAILED)
            return jobs.retry(tx, TENANT, job.job_id)

    async def same(self, name):
        """Whether the index of the generation holds exactly what the catalog says."""
        with self.catalog.read() as tx:
            wanted = [(one[1], contents(tx, *one[:2])) for one in known_collections(tx)]
        held = [(collection, await self.retriever.contents(name, TENANT, collection)) for collection, _ in wanted]
        assert held == wanted and any(one.points for _, one in wanted)

    async def close(self):
        await self.retriever.close()
        self.encoder.close()
        self.catalog.close()


def document(doc_id, *words):
    parts = tuple(PassageIn(n, (), 0, len(word), f"{doc_id}: the {word} sleeps") for n, word in enumerate(words))
    return DocumentIn(doc_id, doc_id, " ".join(words), passages=parts)


async def filled(almanac):
    """Sixteen documents of two passages, half of them changed once, in two collections, and a fact."""
    for number in range(0, 16, 4):
        rows = [document(f"d{n}", WORDS[n], WORDS[(n + 5) % 16]) for n in range(number, number + 4)]
        await almanac.record(*rows)
    await almanac.record(*(document(f"d{n}", WORDS[n], "sparrow") for n in range(0, 16, 2)))
    await almanac.record(document("other", "whale"), collection="sea")
    return await almanac.record(FactIn("Where is the owl?", "In the tree."))
