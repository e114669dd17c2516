"""Verdicts on a generation, in one process over memory backends."""

from dataclasses import replace

import pytest

from pipelines import reindex as reindexing
from pipelines import verify as verifying
from pipelines.follow import Follower
from services.catalog import answers, generations
from services.common.errors import Conflict
from services.common.nodes.funnel import Funnel
from services.common.nodes.retriever import Contents
from tests.fakes.reindex import HERE, SECOND, TENANT, Almanac, document, filled


@pytest.fixture
async def almanac(tmp_path, monkeypatch):
    monkeypatch.setattr(reindexing, "LOOK_SECONDS", 0.0)
    opened = Almanac(tmp_path)
    yield opened
    await opened.close()


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
