"""What every retriever keeps to: erasing, replacing and dropping, in its files too."""

import asyncio
import shutil

import pytest

from services.common.errors import BehindWatermark, Conflict
from services.common.moment import OPEN_END, OPEN_START
from services.common.nodes.retriever import Target
from services.retriever.backends import open_engine
from services.retriever.settings import RetrieverSettings
from tests.fakes.retriever import ANY, DURABLE, QDRANT_URL, apply, changes, found, point, query, retriever_over

ON_DISK = [name for name in DURABLE if name != "qdrant" or not QDRANT_URL]
"""Those whose files are at hand."""


async def test_an_erased_document_is_gone_at_every_moment_and_its_neighbours_are_not(retriever):
    mine = [point(f"p{n}", recorded=(n, n + 1), text="owl", item_id="mine") for n in range(1, 4)]
    question = point("q", text="owl", item_id="mine", target=Target.QUESTIONS)
    await apply(retriever, changes([*mine, question, *(point(f"o{n}", text="owl") for n in range(300))]))
    await apply(retriever, changes([point("p1", text="owl", item_id="mine")]), tenant="rival")
    assert await retriever.erase("g1", "acme", "notes", "doc-mine") == 3
    for known_at in (1, 2, 3, 10):
        assert await found(retriever, known_at=known_at, text="owl") == {f"o{n}" for n in range(300)}
    assert await found(retriever, text="owl", target=Target.QUESTIONS) == {"mine"}
    assert await found(retriever, text="owl", tenant="rival") == {"mine"}
    assert await retriever.position("g1", "acme", "notes") == 10
    assert await retriever.erase("g1", "acme", "notes", "doc-mine") == 0
    assert await retriever.erase("g-unknown", "acme", "notes", "doc-mine") == 0


async def test_scores_are_the_same_after_an_erasure_of_something_else(retriever):
    kept = [point(f"p{n}", text=f"the owl number {n} sits") for n in range(60)]
    await apply(retriever, changes([*kept, point("x", valid=(5, 6), text="fox")]))
    asked = query("owl 7 sits", ANY)
    before = (await retriever.search(asked)).hits
    await retriever.erase("g1", "acme", "notes", "doc-x")
    after = (await retriever.search(asked)).hits
    assert {hit.item_id: hit.score for hit in after} == pytest.approx(
        {hit.item_id: hit.score for hit in before}, abs=1e-5
    )


async def test_a_generation_built_beside_takes_the_place_of_the_other(retriever):
    await apply(retriever, changes([point("old")]))
    await apply(retriever, changes([point("new")]), generation="g1.rebuild")
    await retriever.replace("g1", "g1.rebuild")
    assert await found(retriever) == {"new"}
    assert await retriever.position("g1", "acme", "notes") == 10
    assert await retriever.position("g1.rebuild", "acme", "notes") == OPEN_START
    await apply(retriever, changes([point("later", recorded=(11, OPEN_END))]), start=10, end=12)
    assert await found(retriever, known_at=12) == {"new", "later"}


async def test_a_generation_that_is_behind_takes_nobodys_place(retriever):
    await apply(retriever, changes([point("old")]))
    await apply(retriever, changes([point("new", recorded=(1, OPEN_END))]), generation="g1.rebuild", end=9)
    with pytest.raises(Conflict, match="behind in notes"):
        await retriever.replace("g1", "g1.rebuild")
    with pytest.raises(Conflict, match="build it first"):
        await retriever.replace("g1", "g1.nowhere")
    assert await found(retriever) == {"old"}


async def test_a_dropped_generation_is_gone(retriever):
    await apply(retriever, changes([point("old")]))
    await retriever.drop("g1")
    await retriever.drop("g1")
    assert await retriever.position("g1", "acme", "notes") == OPEN_START
    with pytest.raises(BehindWatermark):
        await found(retriever)


async def test_searches_go_on_while_a_document_is_erased(retriever):
    kept = {f"o{n}" for n in range(540)}
    await apply(retriever, changes([point("p"), *(point(one) for one in kept)]))
    erasing = asyncio.ensure_future(retriever.erase("g1", "acme", "notes", "doc-p"))
    while not erasing.done():
        assert await found(retriever) - {"p"} == kept
    assert await erasing == 1 and await found(retriever) == kept


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("backend", ON_DISK)
async def test_nothing_of_an_erased_document_lies_in_the_indexs_files(index_dir, backend, restart):
    retriever = retriever_over(backend, index_dir)
    # Names that compression finds nothing to shorten in.
    marked = point("p", item_id="Zq7vXk", colour="Wp3jRt")
    await apply(retriever, changes([marked, point("Hb5nLc")]))
    assert holds(index_dir, b"Zq7vXk") and holds(index_dir, b"Wp3jRt")
    await retriever.erase("g1", "acme", "notes", "doc-Zq7vXk")
    if restart:
        await retriever.close()
        retriever = retriever_over(backend, index_dir)
        assert await found(retriever) == {"Hb5nLc"}
    assert not holds(index_dir, b"Zq7vXk") and not holds(index_dir, b"Wp3jRt") and holds(index_dir, b"Hb5nLc")
    await retriever.close()


async def test_a_rewrite_that_was_killed_leaves_the_index_as_it_was(index_dir):
    retriever = retriever_over("edge", index_dir)
    await apply(retriever, changes([point(f"p{n}") for n in range(300)]))
    await retriever.close()
    index = open_engine(RetrieverSettings(home=index_dir)).open("g1")
    steps = index.rewrite()
    assert next(steps)
    (half,) = (index_dir / "index" / "g1").glob("segment-*")
    shutil.copytree(half, index_dir / "kept")
    steps.close()
    index.close()
    shutil.move(index_dir / "kept", half)  # not cleared away: as if killed
    retriever = retriever_over("edge", index_dir)
    assert len(await found(retriever)) == 300
    assert [path.name for path in (index_dir / "index" / "g1").glob("segment*")] == ["segment"]
    await retriever.close()


async def test_a_generation_whose_files_were_removed_under_it_is_replaced(index_dir):
    retriever = retriever_over("edge", index_dir)
    await apply(retriever, changes([point("old")]))
    shutil.rmtree(index_dir)
    await apply(retriever, changes([point("new")]), generation="g1.rebuild")
    await retriever.replace("g1", "g1.rebuild")
    assert await found(retriever) == {"new"}
    await retriever.close()
    retriever = retriever_over("edge", index_dir)
    assert await found(retriever) == {"new"}
    await retriever.close()


def holds(directory, marker):
    return any(marker in path.read_bytes() for path in directory.rglob("*") if path.is_file())
