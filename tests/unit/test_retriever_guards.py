"""What the retriever does when an engine, a file or a caller lets it down."""

import asyncio
import os
import threading
from dataclasses import replace

import numpy as np
import pytest

from services.common.errors import MomentViolation, NotFound, Unavailable
from services.common.moment import OPEN_END, OPEN_START, Extent, Span
from services.common.nodes.scope import Stretch
from services.retriever.backends import open_engine
from services.retriever.backends.base import Candidate, Candidates, Definition
from services.retriever.backends.memory import MemoryEngine, MemoryIndex
from services.retriever.backends.rows.state import State
from services.retriever.retriever import IndexRetriever, build
from services.retriever.settings import RetrieverSettings
from tests.fakes.retriever import apply, changes, index_directory, point, query, retriever_over, vector

OPEN = Extent(Span(), Span())


class Fixed(MemoryIndex):
    """An index that answers whatever it is told to."""

    answer = Candidates([], [])

    def search(self, asked):
        return [self.answer for _ in asked]


def retriever_of(index):
    engine = MemoryEngine()
    engine._indexes["g1"] = index
    return IndexRetriever(engine)


@pytest.mark.parametrize("stage", ["dense", "lexical"])
@pytest.mark.parametrize(
    "forbidden",
    [
        Candidate("i", "d", "acme", "notes", Extent(Span(1, OPEN_END), Span()), 0.5),
        Candidate("i", "d", "acme", "notes", Extent(Span(OPEN_START, 0), Span()), 0.5),
        Candidate("i", "d", "acme", "notes", Extent(Span(), Span(OPEN_START, OPEN_START + 1)), 0.5),
        Candidate("i", "d", "rival", "notes", OPEN, 0.5),
        Candidate("i", "d", "acme", "other", OPEN, 0.5),
    ],
)
async def test_one_forbidden_hit_fails_the_whole_search(stage, forbidden):
    index = Fixed(Definition())
    retriever = retriever_of(index)
    await apply(retriever, end=10)
    allowed = Candidate("ok", "d", "acme", "notes", Extent(Span(), Span(OPEN_START + 1, OPEN_END)), 0.9)
    asked = query("x", vector(1))
    index.answer = Candidates([allowed], [allowed])
    assert [hit.item_id for hit in (await retriever.search(asked)).hits] == ["ok"]
    index.answer = Candidates(**{"dense": [allowed], "lexical": [allowed], stage: [allowed, forbidden]})
    with pytest.raises(MomentViolation, match="'i'"):
        await retriever.search(asked)
    await retriever.close()


class Slow(MemoryIndex):
    """An index whose commit takes until it is let go."""

    def __init__(self):
        super().__init__(Definition())
        self.let_go = threading.Event()

    def commit(self, tenant, collection, watermark):
        self.let_go.wait(5)
        super().commit(tenant, collection, watermark)


async def test_the_event_loop_stays_free_and_a_cancelled_commit_is_still_known():
    index = Slow()
    retriever = retriever_of(index)
    applying = asyncio.create_task(apply(retriever, changes([point("p")]), end=10))
    await asyncio.sleep(0.05)
    applying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await applying
    index.let_go.set()
    assert await apply(retriever, start=10, end=20) == 20
    await retriever.close()


def test_state_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    State(tmp_path, "edge", dimensions=8, watermarks={("acme", "a/b.c"): 5}).save()
    state = State.read(tmp_path, "edge")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        replace(state, watermarks={("acme", "a/b.c"): 6}).save()
    kept = State.read(tmp_path, "edge")
    assert (kept.dimensions, kept.watermark("acme", "a/b.c"), kept.watermark("acme", "z")) == (8, 5, OPEN_START)


async def test_a_directory_another_process_owns_is_unavailable():
    with index_directory() as directory:
        one, two = [retriever_over("edge", directory, retriever_exact_below=0) for _ in range(2)]
        await apply(one, changes([point("p")]))
        with pytest.raises(Unavailable, match="another process"):
            await two.position("g1", "acme", "notes")
        await one.close()


def test_text_is_not_kept():
    with index_directory() as directory:
        index = open_engine(RetrieverSettings(home=directory)).create("g1", Definition())
        secret = "xylophonist"
        index.upsert("acme", "notes", [point("p", text=secret)], np.ones((1, 8), dtype=np.float32))
        index.commit("acme", "notes", 10)
        index.close()
        files = [path for path in directory.rglob("*") if path.is_file()]
        assert len(files) > 5
        assert not [path for path in files if secret.encode() in path.read_bytes()]


async def test_settings_choose_the_backend_and_its_place(tmp_path):
    retriever = build(RetrieverSettings(home=tmp_path, retriever_backend="edge"))
    await retriever.apply("g1", Stretch("acme", "notes", OPEN_START, 5), nothing())
    await retriever.close()
    assert (tmp_path / "index" / "g1" / "state.json").is_file()
    with pytest.raises(NotFound, match="memory"):
        build(RetrieverSettings(home=tmp_path, retriever_backend="nowhere"))


async def nothing():
    for batch in ():
        yield batch
