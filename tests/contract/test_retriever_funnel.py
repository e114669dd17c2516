"""What every retriever keeps to: a generation's funnel, what it tells of itself, and how it says it searched."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from services.common.errors import BehindWatermark, Conflict, InvalidRequest
from services.common.moment import OPEN_END
from services.common.nodes.funnel import Funnel, Fusion, Quantization, Rotation
from services.common.nodes.retriever import Close, Contents, Target, fingerprint
from services.common.rpc.deadlines import deadline
from tests.fakes.retriever import (
    ANY,
    BACKENDS,
    DURABLE,
    apply,
    changes,
    found,
    index_directory,
    point,
    query,
    retriever_over,
    vector,
)

WIDTH, ROWS = 32, 300
METHODS = {
    "dense": {"exact", "codes", "graph", "lists"},
    "lexical": {"postings"},
    "fuse": {"dbsf", "rrf"},
}
FUNNELS = {
    "binary": Funnel(quantization=Quantization.BINARY, oversampling=20),
    "int8": Funnel(quantization=Quantization.INT8, oversampling=4),
    "cut": Funnel(dimensions=16, oversampling=20),
    "cut binary": Funnel(dimensions=24, quantization=Quantization.BINARY, oversampling=30),
    "rotated": Funnel(dimensions=16, rotation=Rotation.PCA, oversampling=20),
}


def rows_of(count, width=WIDTH):
    rng = np.random.default_rng(5)
    spread = np.linspace(2, 0.3, width)  # as embeddings' principal axes are: some say more than others
    return (rng.normal(size=(count, width)) * spread).astype(np.float32)


def basis_of(vectors, dimensions):
    return np.linalg.svd(vectors, full_matrices=False)[2][:dimensions].astype(np.float32)


async def filled(retriever, vectors, name="g1"):
    await apply(retriever, changes([point(f"p{n}") for n in range(len(vectors))], vectors=vectors), generation=name)


async def test_defining_a_generation_twice_is_harmless_and_otherwise_refused(retriever):
    funnel = Funnel(quantization=Quantization.INT8)
    for _ in range(2):
        await retriever.define("g1", funnel)
    with pytest.raises(Conflict, match="another funnel"):
        await retriever.define("g1", Funnel())
    await apply(retriever, changes([point("p")]))
    await retriever.define("g1", funnel)
    await apply(retriever, changes([point("p")]), generation="plain")
    await retriever.define("plain", Funnel())
    with pytest.raises(Conflict, match="another funnel"):
        await retriever.define("plain", funnel)


async def test_a_basis_comes_with_a_rotation_and_fits_it(retriever):
    rotated = Funnel(dimensions=4, rotation=Rotation.PCA)
    wrong = [(rotated, None), (rotated, np.eye(8, dtype=np.float32)[:3]), (Funnel(dimensions=4), np.eye(8)[:4])]
    for funnel, basis in wrong:
        with pytest.raises(InvalidRequest, match="basis"):
            await retriever.define("g1", funnel, None if basis is None else np.asarray(basis, dtype=np.float32))
    assert await retriever.standing("g1") is None


async def test_a_generation_that_was_only_defined_is_empty_and_says_so(retriever):
    await retriever.define("g1", Funnel(quantization=Quantization.BINARY))
    standing = await retriever.standing("g1")
    assert (standing.points, standing.unbuilt, standing.building) == (0, 0, False)
    assert await retriever.contents("g1", "acme", "notes") == Contents(0, 0)
    with deadline(0.3), pytest.raises(BehindWatermark):
        await found(retriever)


async def test_standing_counts_all_points_of_a_generation(retriever):
    assert await retriever.standing("g1") is None
    await apply(retriever, changes([point("p"), point("q", target=Target.QUESTIONS)]))
    await apply(retriever, changes([point("p", recorded=(1, 5))]), tenant="rival")
    standing = await retriever.standing("g1")
    assert standing.points == 3 and 0 <= standing.unbuilt <= 3
    assert (standing.memory_bytes > 0) == (standing.disk_bytes > 0), (
        "both are known of engines with files here, or none"
    )
    await retriever.erase("g1", "acme", "notes", "doc-p")
    assert (await retriever.standing("g1")).points == 2


async def test_contents_are_counts_and_fingerprints_of_a_collections_points(retriever):
    rows = [point("p", recorded=(1, 7), valid=(-5, 5)), point("q", target=Target.QUESTIONS)]
    await apply(retriever, changes(rows))
    await apply(retriever, changes([point("p")]), tenant="rival")
    expected = sum(fingerprint(row.point_id, row.extent) for row in rows) % 2**64
    assert await retriever.contents("g1", "acme", "notes") == Contents(2, expected)
    assert await retriever.contents("g1", "acme", "other") == Contents(0, 0)
    assert await retriever.contents("g9", "acme", "notes") == Contents(0, 0)
    await apply(retriever, changes(closes=[Close("q", 12)]), start=10, end=20)
    ended = [rows[0], point("q", recorded=(1, 12), target=Target.QUESTIONS)]
    expected = sum(fingerprint(row.point_id, row.extent) for row in ended) % 2**64
    assert await retriever.contents("g1", "acme", "notes") == Contents(2, expected)


@pytest.mark.parametrize("backend", DURABLE)
async def test_a_definition_and_contents_survive_a_restart(index_dir, backend):
    vectors = rows_of(40)
    funnel, basis = FUNNELS["rotated"], basis_of(vectors, 16)
    before = retriever_over(backend, index_dir)
    await before.define("g1", funnel, basis)
    await filled(before, vectors)
    contents = await before.contents("g1", "acme", "notes")
    hits = (await before.search(query(vector=vectors[3], limit=10))).hits
    await before.close()
    after = retriever_over(backend, index_dir)
    assert await after.contents("g1", "acme", "notes") == contents and contents.points == 40
    assert (await after.standing("g1")).points == 40
    await after.define("g1", funnel, basis)
    with pytest.raises(Conflict):
        await after.define("g1", Funnel())
    again = (await after.search(query(vector=vectors[3], limit=10))).hits
    assert [hit.item_id for hit in again] == [hit.item_id for hit in hits]
    await after.close()


@pytest.mark.slow
@pytest.mark.parametrize("exact_below", [0, 20_000])
@pytest.mark.parametrize("name", FUNNELS)
@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_funnel_with_enough_candidates_gives_what_an_exact_search_gives(index_dir, backend, name, exact_below):
    vectors, funnel = rows_of(ROWS), FUNNELS[name]
    basis = basis_of(vectors, funnel.dimensions) if funnel.rotation is Rotation.PCA else None
    retriever = retriever_over(backend, index_dir, retriever_exact_below=exact_below)
    await retriever.define("g1", funnel, basis)
    await filled(retriever, vectors)
    for asked in rows_of(ROWS + 8)[ROWS:]:
        cosines = vectors @ asked / np.linalg.norm(vectors, axis=1) / np.linalg.norm(asked)
        best = np.argsort(-cosines)[:10]
        for exact in (False, True):
            hits = (await retriever.search(replace(query(vector=asked, limit=10), exact=exact))).hits
            assert [hit.item_id for hit in hits] == [f"p{n}" for n in best]
            assert [hit.dense for hit in hits] == pytest.approx(cosines[best], abs=1e-5)
    await retriever.close()


async def test_a_search_says_what_each_stage_did(retriever):
    await apply(retriever, changes([point("p1", text="owl"), point("p2", text="fox"), point("p3", recorded=(1, 5))]))
    both = (await retriever.search(query("owl", ANY))).plan
    assert [stage.name for stage in both] == ["dense", "lexical", "fuse"]
    for stage in both:
        assert stage.method in METHODS[stage.name] and stage.ms >= 0
        assert 0 <= stage.passing <= stage.points
    assert {stage.points for stage in both[:2]} == {3}
    assert [stage.name for stage in (await retriever.search(query("owl"))).plan] in (
        ["lexical", "fuse"],
        ["dense", "lexical", "fuse"],
    )


async def test_a_search_that_asks_for_it_is_exact_and_says_so(index_dir):
    for backend in DURABLE:
        retriever = retriever_over(backend, index_dir / backend, retriever_exact_below=0)
        await retriever.define("g1", Funnel(quantization=Quantization.BINARY))
        await filled(retriever, rows_of(50))
        asked = replace(query(vector=rows_of(1)[0]), exact=True)
        assert (await retriever.search(asked)).plan[0].method == "exact", backend
        await retriever.close()


async def test_ranks_count_the_places_of_a_hit_in_each_stage(retriever):
    rows = [
        point("both", text="owl owl"),
        point("far", text="an owl sat in a tree by the river"),
        point("mute", text=""),
    ]
    await apply(retriever, changes(rows, vectors=np.array([ANY, -ANY, ANY + vector(1)])))
    hits = {hit.item_id: hit for hit in (await retriever.search(query("owl", ANY))).hits}
    ranks = {item: (hit.dense_rank, hit.lexical_rank) for item, hit in hits.items()}
    assert ranks == {"both": (1, 1), "mute": (2, None), "far": (3, 2)}
    alone = (await retriever.search(query("owl"))).hits
    assert [(hit.item_id, hit.dense_rank, hit.lexical_rank) for hit in alone] == [("both", None, 1), ("far", None, 2)]


async def test_fusion_is_the_generations(retriever):
    rows = [point("a", text="owl"), point("b", text="fox"), point("c", text="owl owl owl")]
    vectors = np.array([ANY, ANY + vector(1) / 2, -ANY])
    plans = {}
    for fusion in Fusion:
        await retriever.define(fusion.value, Funnel(fusion=fusion))
        await apply(retriever, changes(rows, vectors=vectors), generation=fusion.value)
        found = await retriever.search(query("owl", ANY, generation=fusion.value))
        plans[fusion] = found.plan[-1].method
        scores = {hit.item_id: hit.score for hit in found.hits}
        if fusion is Fusion.RRF:
            assert scores == pytest.approx({"a": 1 / 2 + 1 / 3, "b": 1 / 3, "c": 1 / 4 + 1 / 2})
    assert plans == {Fusion.DBSF: "dbsf", Fusion.RRF: "rrf"}


async def test_a_generation_without_a_lexical_stage_searches_texts_only_where_there_is_no_vector(retriever):
    await retriever.define("g1", Funnel(lexical=False))
    await apply(retriever, changes([point("p1", text="owl"), point("p2", text="fox")]))
    hits = (await retriever.search(query("owl", ANY))).hits
    assert len(hits) == 2 and {hit.lexical for hit in hits} == {None}
    assert [hit.item_id for hit in (await retriever.search(query("owl"))).hits] == ["p1"]


async def test_searches_sent_together_find_what_they_find_one_by_one(retriever):
    rows = [point(f"p{n}", (1 + n % 9, OPEN_END), text=f"owl {n % 7}", kind=str(n % 3)) for n in range(60)]
    await apply(retriever, changes(rows))
    await apply(retriever, changes([point("theirs", text="owl")]), tenant="rival")
    asked = [
        query(
            f"owl {n % 7}" if n % 3 else "",
            vector(n) if n % 4 or n % 3 == 0 else None,
            known_at=1 + n % 10,
            tenant="rival" if n % 5 == 0 else "acme",
            limit=1 + n,
            **({"kind": ["1"]} if n % 2 else {}),
        )
        for n in range(24)
    ]
    one_by_one = [(await retriever.search(one)).hits for one in asked]
    together = [one.hits for one in await asyncio.gather(*(retriever.search(one) for one in asked))]
    for alone, beside in zip(one_by_one, together, strict=True):
        assert {hit.item_id: hit.score for hit in beside} == pytest.approx(
            {hit.item_id: hit.score for hit in alone}, abs=1e-5
        )


async def test_a_search_that_is_refused_spoils_none_of_those_sent_with_it(retriever):
    await apply(retriever, changes([point("p")]))
    wrong = query(vector=np.ones(3, dtype=np.float32))
    asked = [query(vector=ANY), wrong, query(vector=ANY)]
    first, refused, last = await asyncio.gather(*(retriever.search(one) for one in asked), return_exceptions=True)
    assert isinstance(refused, InvalidRequest)
    assert [hit.item_id for hit in first.hits] == [hit.item_id for hit in last.hits] == ["p"]


async def test_a_small_tenant_among_many_is_found_whole_and_alone(retriever):
    for n in range(30):
        rows = [point(f"p{m}", text="owl", item_id=f"t{n}-{m}") for m in range(40 if n == 0 else 3)]
        await apply(retriever, changes(rows), tenant=f"tenant-{n}")
    for n in (1, 17, 29):
        hits = (await retriever.search(query("owl", ANY, tenant=f"tenant-{n}"))).hits
        assert {hit.item_id for hit in hits} == {f"t{n}-{m}" for m in range(3)}
        assert all(hit.dense is not None and hit.lexical is not None for hit in hits)
        few = (await retriever.search(query("owl", ANY, tenant=f"tenant-{n}", limit=2))).hits
        assert [hit.item_id for hit in few] == [hit.item_id for hit in hits[:2]]


async def test_the_same_changes_have_the_same_contents_in_every_backend():
    seen = set()
    for backend in BACKENDS:
        with index_directory() as directory:
            retriever = retriever_over(backend, directory)
            await apply(retriever, changes([point(f"p{n}", (1 + n % 5, OPEN_END), (n, n + 9)) for n in range(30)]))
            await apply(retriever, changes(closes=[Close("p3", 15), Close("p4", 16)]), start=10, end=20)
            seen.add(await retriever.contents("g1", "acme", "notes"))
            await retriever.close()
    assert len(seen) == 1 and seen.pop().points == 30
