"""Building, following and verifying a generation beside the live one, in one process over memory backends."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines import follow
from pipelines import reindex as reindexing
from pipelines import verify as verifying
from pipelines.advance import Readers
from pipelines.erase import LOG, Eraser
from pipelines.follow import Follower
from pipelines.rebuild import Rebuilder
from pipelines.reindex import Builder
from pipelines.verify import Verifier
from services.catalog import answers, erasing, generations, jobs
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.probing import contents
from services.catalog.records import DocumentIn, FactIn, Generation, PassageIn
from services.catalog.state import basis, ensure_generation, known_collections, live_generation
from services.catalog.tables import vectors
from services.catalog.vectors import VectorFiles
from services.common.errors import Conflict, InvalidRequest, Unavailable
from services.common.nodes.funnel import PLAIN, Funnel, Rotation
from services.common.nodes.retriever import Contents
from services.encoder.backends.memory import MemoryBackend
from services.encoder.encoder import ModelEncoder
from services.features.backends.memory import MemoryBackend as MemoryFeatures
from services.features.features import PointInTimeFeatures
from services.orchestrator.following import Following
from tests.fakes.encoder import encoder_model
from tests.fakes.retriever import retriever_over

FIRST, SECOND = "all-MiniLM-L6-v2", "hashed-24"
TENANT, HERE = "local", "notes"
WORDS = ("owl fox hare wren", "toad newt lynx boar", "stoat raven heron otter", "badger marten kestrel vole")
WORDS = [word for words in WORDS for word in words.split()]


class Killed(BaseException):
    """Stands in for SIGKILL: nothing catches it."""


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


@pytest.fixture
async def almanac(tmp_path, monkeypatch):
    monkeypatch.setattr(reindexing, "LOOK_SECONDS", 0.0)
    opened = Almanac(tmp_path)
    yield opened
    await opened.close()


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


def calls(almanac, monkeypatch):
    """The texts that the encoder is asked for from now on, by model."""
    asked = []
    encode = almanac.encoder.encode

    async def counting(model, kind, texts):
        asked.extend((model, text) for text in texts)
        return await encode(model, kind, texts)

    monkeypatch.setattr(almanac.encoder, "encode", counting)
    return asked


async def test_other_dimensions_are_built_without_encoding_anything(almanac, monkeypatch):
    await filled(almanac)
    asked = calls(almanac, monkeypatch)
    made, job = almanac.start(funnel=Funnel(dimensions=12))
    done = await almanac.work(almanac.builder, job)
    assert almanac.standing(made.name).state == "ready" and not asked
    assert done.cursor == done.total == done.counts["points"] and done.counts["encoded"] == 0
    await almanac.same(made.name)


async def test_another_encoder_encodes_everything_once(almanac, monkeypatch):
    await filled(almanac)
    asked = calls(almanac, monkeypatch)
    made, job = almanac.start(SECOND, 24)
    done = await almanac.work(almanac.builder, job)
    assert {model for model, _ in asked} == {SECOND} and len(asked) == len(set(asked)) == done.counts["encoded"]
    assert done.cursor == done.total == done.counts["points"] + done.counts["encoded"]
    await almanac.same(made.name)


async def test_a_rotation_is_fitted_on_the_corpus_and_stored_with_the_generation(almanac):
    await filled(almanac)
    made, job = almanac.start(SECOND, 24, Funnel(dimensions=8, rotation=Rotation.PCA))
    done = await almanac.work(almanac.builder, job)
    with almanac.catalog.read() as tx:
        found = basis(tx, made)
    assert found.shape == (8, 24) and np.allclose(found @ found.T, np.eye(8), atol=1e-5)
    assert done.counts["sample"] == done.counts["encoded"]
    await almanac.same(made.name)


async def test_a_corpus_too_small_for_a_rotation_says_so(almanac):
    await almanac.record(document("d", "owl"))
    _, job = almanac.start(funnel=Funnel(dimensions=12, rotation=Rotation.PCA))
    with pytest.raises(InvalidRequest, match="corpus has 1"):
        await almanac.work(almanac.builder, job)


@pytest.mark.parametrize("funnel", [PLAIN, Funnel(dimensions=8, rotation=Rotation.PCA)])
async def test_a_build_killed_at_any_step_goes_on_and_encodes_nothing_twice(almanac, monkeypatch, funnel):
    await filled(almanac)
    monkeypatch.setattr(follow, "STEP_TEXTS", 5)
    monkeypatch.setattr(follow, "STEP_POINTS", 7)
    made, job = almanac.start(SECOND, 24, funnel)
    asked = calls(almanac, monkeypatch)
    pause, steps = Follower._pause, 0

    async def killed(self, began):
        nonlocal steps
        steps += 1
        if steps % 2 == 0:
            raise Killed
        await pause(self, began)

    monkeypatch.setattr(Follower, "_pause", killed)
    deaths = 0
    while almanac.standing(made.name).state != "ready":
        try:
            await almanac.work(almanac.builder, job)
        except Killed:
            deaths += 1
            job = almanac.interrupted(job)
    assert deaths > 5 and len(asked) == len(set(asked))
    await almanac.same(made.name)


async def test_what_is_recorded_during_the_build_is_in_it(almanac, monkeypatch):
    await filled(almanac)
    monkeypatch.setattr(follow, "STEP_POINTS", 7)
    made, job = almanac.start(SECOND, 24)
    late = [document(f"late{n}", "moth", WORDS[n]) for n in range(5)]
    pause = Follower._pause

    async def busy(self, began):
        if late:
            await almanac.record(late.pop())
        await pause(self, began)

    monkeypatch.setattr(Follower, "_pause", busy)
    await almanac.work(almanac.builder, job)
    assert not late
    await almanac.same(made.name)
    await almanac.same("g1")


async def test_a_build_takes_no_more_than_its_share_of_the_time(almanac, monkeypatch):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(follow.asyncio, "sleep", sleep)
    monkeypatch.setattr(follow.time, "monotonic", lambda: 10.0)
    await replace(almanac.follower, share=0.25)._pause(8.0)
    await almanac.follower._pause(8.0)
    assert pauses == [6.0]


async def test_a_dropped_generation_ends_its_build(almanac, monkeypatch):
    await filled(almanac)
    monkeypatch.setattr(follow, "STEP_POINTS", 7)
    made, job = almanac.start()
    pause = Follower._pause

    async def dropped(self, began):
        with almanac.catalog.write() as tx:
            generations.drop(tx, made.name)
        await pause(self, began)

    monkeypatch.setattr(Follower, "_pause", dropped)
    with pytest.raises(Conflict):
        await almanac.work(almanac.builder, job)
    following = Following(almanac.follower, almanac.retriever, 1.0)
    for _ in range(3):
        await following._drop()
    assert await almanac.retriever.standing(made.name) is None
    with almanac.catalog.read() as tx:
        assert generations.dropping(tx) == [] and [one.generation.name for one in generations.standings(tx)] == ["g1"]


async def test_commits_reach_the_generations_that_wait_or_are_kept(almanac):
    await filled(almanac)
    made = await almanac.built(encoder=SECOND, dimensions=24)
    following = Following(almanac.follower, almanac.retriever, 1.0)
    for live, beside in (("g1", made.name), (made.name, "g1")):
        await almanac.record(document("late", "moth", live))
        assert almanac.standing(live).behind == 0 and almanac.standing(beside).behind > 0
        await following._each(following._follow)
        assert almanac.standing(beside).behind == 0
        await almanac.same(beside)
        with almanac.catalog.write() as tx:
            generations.switch(tx, beside, forced=True)


async def test_one_that_cannot_be_followed_keeps_no_other_back(almanac):
    await filled(almanac)
    gone, made = await almanac.built(encoder=SECOND, dimensions=24), await almanac.built(funnel=Funnel(dimensions=8))
    almanac.encoder._served.pop(SECOND)
    await almanac.record(document("late", "moth"))
    following = Following(almanac.follower, almanac.retriever, 1.0)
    await following._each(following._follow)
    assert almanac.standing(gone.name).behind and not almanac.standing(made.name).behind


async def test_an_index_is_not_sent_points_without_vectors(almanac):
    newest = await filled(almanac)
    stretch_of = Generation("g2", SECOND, 24)
    with pytest.raises(Unavailable, match="no vector"):
        await almanac.readers.advance_index(stretch_of, TENANT, HERE, newest)


async def test_an_erased_document_is_in_no_generation_and_in_no_vector_file(almanac, monkeypatch):
    await filled(almanac)
    ready = await almanac.built(encoder=SECOND, dimensions=24)
    half, build = almanac.start(funnel=Funnel(dimensions=8))
    monkeypatch.setattr(follow, "STEP_POINTS", 7)
    pause = Follower._pause

    async def killed(self, began):
        raise Killed

    monkeypatch.setattr(Follower, "_pause", killed)
    with pytest.raises(Killed):
        await almanac.work(almanac.builder, build)
    monkeypatch.setattr(Follower, "_pause", pause)

    async def forget(ids):
        pass

    parts = (almanac.catalog, almanac.files, almanac.readers, almanac.retriever, almanac.features)
    with almanac.catalog.write() as tx:
        job = erasing.ask(tx, TENANT, HERE, "d0")
    await almanac.work(Eraser(*parts, forget, almanac.home / LOG), job)
    await almanac.work(almanac.builder, almanac.interrupted(build))
    for name in ("g1", ready.name, half.name):
        await almanac.same(name)
    with almanac.catalog.read() as tx:
        named = set(tx.execute(vectors.select()).all())
    files = {item for file_id in almanac.files.settled(0.0) for item in almanac.files.read(file_id)}
    assert files == {row.item_id for row in named}


async def test_a_rotated_generation_that_is_live_can_be_rebuilt(almanac):
    await filled(almanac)
    made = await almanac.built(encoder=SECOND, dimensions=24, funnel=Funnel(dimensions=8, rotation=Rotation.PCA))
    with almanac.catalog.write() as tx:
        generations.switch(tx, made.name, forced=True)
        job = erasing.ask_rebuild(tx, TENANT)
    await almanac.work(Rebuilder(almanac.catalog, almanac.readers, almanac.retriever, almanac.features), job)
    await almanac.same(made.name)


async def test_a_good_generation_passes_with_figures(almanac):
    await filled(almanac)
    with almanac.catalog.write() as tx:
        answers.create(tx, TENANT, HERE, {"text": "Where does the wren sleep?"})
    made = await almanac.built(funnel=Funnel(dimensions=24))
    verdict = await almanac.verify(made.name)
    assert verdict["passed"] and not verdict["reasons"], verdict
    assert verdict["recall@10"] == {"g1": 1.0, made.name: 1.0} and verdict["overlap@10"] == 1.0
    assert verdict["collections"] == 2 and verdict["points"] > 40 and verdict["asked"] > 30
    with almanac.catalog.write() as tx:
        assert generations.switch(tx, made.name) == (made.name, "g1")


async def test_an_index_that_lacks_points_fails_and_is_not_switched_to(almanac, monkeypatch):
    await filled(almanac)
    made = await almanac.built()
    honest = almanac.retriever.contents

    async def short(name, tenant, collection):
        found = await honest(name, tenant, collection)
        return Contents(found.points - 1, found.fingerprint) if name == made.name else found

    monkeypatch.setattr(almanac.retriever, "contents", short)
    verdict = await almanac.verify(made.name)
    assert not verdict["passed"] and "points" in verdict["reasons"][0] and made.name in verdict["reasons"][0]
    with almanac.catalog.write() as tx, pytest.raises(Conflict, match="failed its verification"):
        generations.switch(tx, made.name)


async def test_a_funnel_that_finds_too_little_fails(almanac, monkeypatch):
    await filled(almanac)
    made = await almanac.built()
    honest = almanac.retriever.search

    async def blind(query):
        found = await honest(query)
        lossy = query.scope.generation == made.name and not query.exact
        return replace(found, hits=found.hits[5:]) if lossy else found

    monkeypatch.setattr(almanac.retriever, "search", blind)
    verdict = await almanac.verify(made.name)
    assert [reason.split()[0] for reason in verdict["reasons"]] == ["recall@10", "overlap@10"]
    assert verdict["recall@10"]["g1"] == 1.0


async def nothing(*_):
    pass


async def test_a_generation_behind_the_record_fails(almanac, monkeypatch):
    await filled(almanac)
    made = await almanac.built()
    monkeypatch.setattr(verifying, "TRIES", 2)
    monkeypatch.setattr(verifying, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(Follower, "bring", nothing)
    await almanac.record(document("late", "moth"))
    verdict = await almanac.verify(made.name)
    assert not verdict["passed"] and "behind" in verdict["reasons"][0]


async def test_an_empty_catalog_has_a_generation_that_is_ready_and_passes(almanac):
    made = await almanac.built(encoder=SECOND, dimensions=24)
    verdict = await almanac.verify(made.name)
    assert almanac.standing(made.name).state == "ready" and verdict["passed"] and verdict["asked"] == 0


async def test_the_watermark_of_an_index_that_was_lost_is_not_believed(almanac):
    newest = await filled(almanac)
    made = await almanac.built()
    await almanac.retriever.drop(made.name)
    following = Following(almanac.follower, almanac.retriever, 1.0)
    await following._each(following._verify)
    await almanac.same(made.name)
    with almanac.catalog.read() as tx:
        assert generations.behind(tx, made.name) == 0
    assert await almanac.retriever.position(made.name, TENANT, HERE) == newest
