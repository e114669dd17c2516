"""Building and following a generation beside the live one, in one process over memory backends."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from pipelines import follow
from pipelines import reindex as reindexing
from pipelines.erase import LOG, Eraser
from pipelines.follow import Follower
from pipelines.rebuild import Rebuilder
from services.catalog import erasing, generations
from services.catalog.records import Generation
from services.catalog.state import basis
from services.catalog.tables import vectors
from services.common.errors import Conflict, InvalidRequest, Unavailable
from services.common.moment import now
from services.common.nodes.funnel import PLAIN, Funnel, Rotation
from services.orchestrator.following import Following
from tests.fakes.reindex import HERE, SECOND, TENANT, WORDS, Almanac, document, filled


class Killed(BaseException):
    """Stands in for SIGKILL: nothing catches it."""


@pytest.fixture
async def almanac(tmp_path, monkeypatch):
    monkeypatch.setattr(reindexing, "LOOK_SECONDS", 0.0)
    opened = Almanac(tmp_path)
    yield opened
    await opened.close()


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


async def test_an_encoder_that_dies_during_the_build_is_waited_for_like_any_node(almanac, monkeypatch):
    await filled(almanac)
    _, job = almanac.start(SECOND, 24)

    async def gone(model, kind, texts):
        raise Unavailable("the encoder does not answer")

    monkeypatch.setattr(almanac.encoder, "encode", gone)
    with pytest.raises(Unavailable, match="does not answer"):
        await almanac.work(almanac.builder, job)


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


async def test_workers_that_follow_at_once_encode_nothing_twice(almanac, monkeypatch):
    await filled(almanac)
    made = await almanac.built(encoder=SECOND, dimensions=24)
    await almanac.record(*(document(f"late{n}", "moth", WORDS[n]) for n in range(8)))
    monkeypatch.setattr(follow, "STEP_TEXTS", 3)
    asked = calls(almanac, monkeypatch)
    workers = [Following(almanac.follower, almanac.retriever, 1.0) for _ in range(3)]
    await asyncio.gather(*(worker._each(worker._follow) for worker in workers))
    assert len(asked) == len(set(asked)) == 8 + 8 and not almanac.standing(made.name).behind
    await almanac.same(made.name)


async def test_a_generation_whose_follower_died_is_followed_once_its_lease_has_run_out(almanac, monkeypatch):
    await filled(almanac)
    made = await almanac.built()
    await almanac.record(document("late", "moth"))
    with almanac.catalog.write() as tx:
        assert generations.follow(tx, made.name)
    following = Following(almanac.follower, almanac.retriever, 1.0)
    await following._each(following._follow)
    assert almanac.standing(made.name).behind
    monkeypatch.setattr(generations, "now", lambda: now() + generations.FOLLOW_US + 1_000_000)
    await following._each(following._follow)
    assert not almanac.standing(made.name).behind


async def test_a_follower_that_lost_its_lease_stops_and_leaves_the_other_ones_alone(almanac, monkeypatch):
    await filled(almanac)
    made = await almanac.built(encoder=SECOND, dimensions=24)
    await almanac.record(*(document(f"late{n}", "moth", WORDS[n]) for n in range(8)))
    monkeypatch.setattr(follow, "STEP_TEXTS", 3)
    asked, pause, other = calls(almanac, monkeypatch), Follower._pause, 0

    async def slow(self, began):
        nonlocal other
        monkeypatch.setattr(generations, "now", lambda: now() + 2 * generations.FOLLOW_US)
        with almanac.catalog.write() as tx:
            other = other or generations.follow(tx, made.name)
        await pause(self, began)

    monkeypatch.setattr(Follower, "_pause", slow)
    following = Following(almanac.follower, almanac.retriever, 1.0)
    await following._each(following._follow)
    with almanac.catalog.write() as tx:
        assert len(asked) < 16 and generations.follow(tx, made.name, other)


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


async def test_the_watermark_of_an_index_that_was_lost_is_not_believed(almanac):
    newest = await filled(almanac)
    made = await almanac.built()
    await almanac.retriever.drop(made.name)
    following = Following(almanac.follower, almanac.retriever, 1.0)
    await following._each(following._follow)
    await almanac.same(made.name)
    with almanac.catalog.read() as tx:
        assert generations.behind(tx, made.name) == 0
    assert await almanac.retriever.position(made.name, TENANT, HERE) == newest
