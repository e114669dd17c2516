"""What every retriever keeps to, over each engine in process and over gRPC: what is visible, and its scores."""

import math

import numpy as np
import pytest

from services.common.moment import OPEN_END, OPEN_START, parse_instant
from services.common.nodes.retriever import Close, Target
from tests.fakes.retriever import (
    ANY,
    DIMENSIONS,
    DURABLE,
    QDRANT_URL,
    apply,
    changes,
    found,
    point,
    query,
    retriever_over,
    vector,
)


async def test_a_hit_carries_ids_scores_and_its_extent(retriever):
    one = point("p1", recorded=(3, OPEN_END), valid=(0, 100), text="the quick fox", item_id="passage-1")
    await apply(retriever, changes([one, point("p2", text="a slow dog")]))
    best = (await retriever.search(query("fox", vector(sum(b"p1"))))).hits[0]
    assert (best.item_id, best.doc_id, best.extent) == ("passage-1", "doc-passage-1", one.extent)
    assert best.dense == pytest.approx(1.0, abs=1e-5) and best.lexical > 0
    assert best.score == pytest.approx(0.5 + 0.5 + 1 / (6 * math.sqrt(2) / 2) / 2, abs=1e-5)


async def test_visible_is_what_holds_at_both_instants(retriever):
    await apply(retriever, changes([point("p", recorded=(5, 8), valid=(100, 200))]))
    seen = {
        (as_of, known_at)
        for as_of in (99, 100, 199, 200)
        for known_at in (4, 5, 7, 8)
        if await found(retriever, as_of=as_of, known_at=known_at)
    }
    assert seen == {(100, 5), (100, 7), (199, 5), (199, 7)}


@pytest.mark.parametrize("year", ["0001", "1150", "1684", "2026", "2256", "9998"])
async def test_boundaries_are_exact_to_the_microsecond_in_every_year(retriever, year):
    start, end = parse_instant(f"{year}-05-05T01:02:03.456789Z"), parse_instant(f"{year}-05-05T01:02:03.456812Z")
    await apply(retriever, changes([point("p", valid=(start, end), text="owl")]))
    for as_of in [*range(start - 20, start + 20), *range(end - 20, end + 20)]:
        expected = {"p"} if start <= as_of < end else set()
        assert await found(retriever, as_of=as_of, text="owl") == expected, as_of


async def test_open_ends_reach_from_the_year_1_to_9999(retriever):
    await apply(retriever, changes([point("p")]))
    for as_of in (OPEN_START, OPEN_START + 1, 0, OPEN_END - 1):
        assert await found(retriever, as_of=as_of) == {"p"}
    assert await found(retriever, as_of=OPEN_END) == set()


async def test_tenants_and_collections_do_not_see_each_other(retriever):
    places = [("acme", "notes"), ("acme", "other"), ("rival", "notes")]
    for tenant, collection in places:
        mine = point("same-id", item_id=f"{tenant}-{collection}", text="secret")
        await apply(retriever, changes([mine]), tenant=tenant, collection=collection)
    for tenant, collection in places:
        seen = await found(retriever, tenant=tenant, collection=collection, text="secret")
        assert seen == {f"{tenant}-{collection}"}


async def test_a_close_of_one_tenant_leaves_the_other_tenants_point(retriever):
    for tenant in ("acme", "rival"):
        await apply(retriever, changes([point("same-id")]), tenant=tenant)
    await apply(retriever, changes(closes=[Close("same-id", 12)]), start=10, end=12)
    await apply(retriever, start=10, end=12, tenant="rival")
    assert await found(retriever, known_at=12) == set()
    assert await found(retriever, known_at=12, tenant="rival") == {"same-id"}


async def test_targets_are_searched_apart(retriever):
    await apply(retriever, changes([point("p"), point("q", target=Target.QUESTIONS)]))
    assert await found(retriever) == {"p"}
    assert await found(retriever, target=Target.QUESTIONS) == {"q"}


async def test_filters_want_one_of_the_values_under_every_key(retriever):
    rows = [
        point("p1", lang="en", **{"odd key.[]\"'": "x"}),
        point("p2", lang="de", **{"odd key.[]\"'": "x"}),
        point("p3", lang="fr", **{"odd key.[]\"'": "y"}),
        point("p4"),
    ]
    await apply(retriever, changes(rows))
    assert await found(retriever, lang=["en", "fr"]) == {"p1", "p3"}
    assert await found(retriever, lang=["en", "fr"], **{"odd key.[]\"'": ["x"]}) == {"p1"}
    assert await found(retriever, lang=["es"]) == set()


async def test_a_close_hides_from_its_record_time_on_and_the_past_still_sees(retriever):
    await apply(retriever, changes([point("p")]), end=10)
    await apply(retriever, changes([point("new", recorded=(15, OPEN_END))], [Close("p", 15)]), start=10, end=20)
    assert await found(retriever, known_at=14) == {"p"}
    assert await found(retriever, known_at=15) == {"new"}


async def test_an_item_with_many_visible_points_is_one_hit_and_crowds_nobody_out(retriever):
    same = [point(f"p{n}", item_id="crowd", text="owl owl") for n in range(230)]
    rows = [*same, *(point(f"z{n}", text="an owl sat in the old tree") for n in range(3))]
    vectors = np.array([vector(1)] * 230 + [vector(2), vector(3), vector(4)])
    await apply(retriever, changes(rows, vectors=vectors))
    hits = (await retriever.search(query("owl", vector(1), limit=4))).hits
    assert sorted(hit.item_id for hit in hits) == ["crowd", "z0", "z1", "z2"]
    assert all(hit.dense is not None and hit.lexical is not None for hit in hits)


async def test_without_a_vector_only_matching_texts_are_found(retriever):
    await apply(retriever, changes([point("p1", text="owls hunt at night"), point("p2", text="a day"), point("p3")]))
    hits = (await retriever.search(query("the owl"))).hits
    assert [(hit.item_id, hit.dense) for hit in hits] == [("p1", None)] and hits[0].lexical > 0


async def test_without_text_the_order_is_that_of_cosines(retriever):
    rows = [point(f"p{n}") for n in range(20)]
    vectors = np.array([vector(n) * (n + 1) for n in range(20)])
    await apply(retriever, changes(rows, vectors=vectors))
    hits = (await retriever.search(query(vector=ANY, limit=5))).hits
    cosines = vectors @ ANY / np.linalg.norm(vectors, axis=1) / np.linalg.norm(ANY)
    assert [hit.item_id for hit in hits] == [f"p{n}" for n in np.argsort(-cosines)[:5]]
    assert [hit.dense for hit in hits] == pytest.approx(sorted(cosines, reverse=True)[:5], abs=1e-5)
    assert {hit.lexical for hit in hits} == {None}


async def test_a_text_of_stop_words_or_nothing_indexed_finds_nothing(retriever):
    await apply(retriever, changes([point("p", text="")]))
    assert (await retriever.search(query("the of and"))).hits == []
    assert (await retriever.search(query("zebra"))).hits == []
    assert await found(retriever, text="zebra") == {"p"}


async def test_bm25_is_computed_as_published(retriever):
    await apply(retriever, changes([point("p1", text="owl"), point("p2", text="fox"), point("p3", text="owl owl fox")]))
    scores = {hit.item_id: hit.lexical for hit in (await retriever.search(query("owl"))).hits}
    rarity = math.log((3 - 2 + 0.5) / (2 + 0.5) + 1)
    weights = {"p1": 2.2 / (1 + 1.2 * (0.25 + 0.75 / 256)), "p3": 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 256))}
    assert scores == pytest.approx({item: rarity * weight for item, weight in weights.items()}, rel=1e-5)


async def test_documents_from_elsewhere_and_other_times_do_not_move_bm25_scores(retriever):
    await apply(retriever, changes([point("p1", text="owl night"), point("p2", text="fox day")]))
    before = (await retriever.search(query("owl night"))).hits
    others = [
        point("late", recorded=(15, OPEN_END), text="owl owl"),
        point("future", recorded=(15, OPEN_END), valid=(1_000, OPEN_END), text="owl"),
        point("past", recorded=(12, 13), valid=(OPEN_START, -5), text="night"),
    ]
    await apply(retriever, changes(others), start=10, end=20)
    await apply(retriever, changes([point("x", text="owl")]), collection="other")
    await apply(retriever, changes([point("x", text="owl")]), tenant="rival")
    assert (await retriever.search(query("owl night"))).hits == before
    assert (await retriever.search(query("owl night", known_at=20))).hits != before


WORDS = ["owl", "fox", "night", "day", "tree", "river", "stone", "wind", "snow", "fire", "moon", "sun", "leaf", "root"]


@pytest.mark.parametrize("backend", DURABLE)
async def test_random_rows_are_ordered_as_the_exhaustive_search_orders_them(index_dir, backend):
    rng = np.random.default_rng(7)
    size = 150 if backend == "qdrant" and not QDRANT_URL else 600  # the client's own engine filters in Python
    rows, recorded = [], 0
    for n in range(size):
        recorded = 1 + 100 * n // size
        ends = OPEN_END if n % 3 else recorded + int(rng.integers(1, 50))
        start = int(rng.integers(0, 100))
        text = " ".join(rng.choice(WORDS, size=int(rng.integers(3, 15))))
        item = f"i{int(rng.integers(0, 2 * size // 3))}"
        rows.append(point(f"p{n}", (recorded, ends), (start, start + 40), text, item, kind=str(n % 2)))
    vectors = rng.normal(size=(size, DIMENSIONS)).astype(np.float32)
    both = [retriever_over(name, index_dir) for name in ("memory", backend)]
    for one in both:
        await apply(one, changes(rows, vectors=vectors), end=200)
    for n in range(60):
        asked = query(
            " ".join(rng.choice(WORDS, size=3)) if n % 3 else "",
            rng.normal(size=DIMENSIONS).astype(np.float32) if n % 4 else None,
            as_of=int(rng.integers(0, 140)),
            known_at=int(rng.integers(0, 150)),
            limit=int(rng.integers(1, 300)),
            **({"kind": ["1"]} if n % 5 == 0 else {}),
        )
        if not asked.text and asked.vector is None:
            continue
        exact, engine = [(await one.search(asked)).hits for one in both]
        assert_same_order(exact, engine)
    for one in both:
        await one.close()


def assert_same_order(exact, engine):
    """Equal but for the order of items whose scores float32 cannot tell apart."""
    assert [hit.score for hit in engine] == pytest.approx([hit.score for hit in exact], abs=1e-4)
    theirs = {hit.item_id: hit for hit in engine}
    lowest = exact[-1].score + 1e-4 if exact else 0.0
    for hit in exact:
        if hit.item_id in theirs:
            assert theirs[hit.item_id].score == pytest.approx(hit.score, abs=1e-4)
        else:
            assert hit.score <= lowest
