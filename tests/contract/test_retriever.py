"""What every retriever keeps to: over each engine in process, and over gRPC."""

import asyncio
import math
import shutil
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest

from services.common.clients.retriever import RetrieverClient
from services.common.errors import BehindWatermark, Conflict, InvalidRequest
from services.common.moment import OPEN_END, OPEN_START, parse_instant
from services.common.nodes.retriever import Close, Target
from services.common.nodes.scope import Stretch
from services.common.rpc.client import channel
from services.common.rpc.deadlines import deadline
from services.common.rpc.server import start
from services.protos import retriever_pb2 as pb
from services.protos.retriever_pb2_grpc import RetrieverStub, add_RetrieverServicer_to_server
from services.retriever.backends import open_engine
from services.retriever.server import RetrieverServicer
from services.retriever.settings import RetrieverSettings
from tests.fakes.retriever import DIMENSIONS, apply, changes, index_directory, point, query, retriever_over, vector

ANY = vector(99)


@pytest.fixture
def index_dir():
    with index_directory() as directory:
        yield directory


@pytest.fixture(params=["memory", "edge", "edge over gRPC"])
async def retriever(request, tmp_path, index_dir):
    inside = retriever_over(request.param.split()[0], index_dir)
    if request.param.endswith("gRPC"):
        async with served(inside, tmp_path) as line:
            yield RetrieverClient(line)
    else:
        yield inside
    await inside.close()


@asynccontextmanager
async def served(retriever, directory):
    address = f"unix:{directory / 'retriever.sock'}"
    server = await start(
        address,
        "almanac.retriever.v1.Retriever",
        lambda server: add_RetrieverServicer_to_server(RetrieverServicer(retriever), server),
    )
    async with channel(address) as line:
        yield line
    await server.stop(None)


async def found(retriever, **asked):
    asked = {"vector": ANY} | asked
    return {hit.item_id for hit in (await retriever.search(query(**asked))).hits}


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


async def test_applying_a_stretch_again_is_harmless_and_reopens_nothing(retriever):
    first, second = changes([point("p")]), changes([point("new", recorded=(12, OPEN_END))], [Close("p", 12)])
    await apply(retriever, first, end=10)
    await apply(retriever, second, start=10, end=20)
    assert await apply(retriever, first, end=10) == 20
    assert await apply(retriever, second, start=10, end=20) == 20
    assert await apply(retriever, first, changes([point("newest", recorded=(25, OPEN_END))]), end=30) == 30
    assert await found(retriever, known_at=30) == {"new", "newest"}
    assert await found(retriever, known_at=11) == {"p"}


async def test_a_stretch_that_leaves_a_gap_is_refused_and_says_the_position(retriever):
    await apply(retriever, changes([point("p")]), end=10)
    with pytest.raises(Conflict, match="at 10 "):
        await apply(retriever, start=11, end=20)
    assert await retriever.position("g1", "acme", "notes") == 10


async def test_an_empty_stretch_moves_the_watermark(retriever):
    assert await apply(retriever, end=7) == 7
    assert await retriever.position("g1", "acme", "notes") == 7
    assert await found(retriever, known_at=7) == set()


async def test_what_was_never_applied_is_at_the_open_start(retriever):
    assert await retriever.position("g1", "acme", "notes") == OPEN_START
    await apply(retriever)
    assert await retriever.position("g1", "acme", "other") == OPEN_START
    assert await retriever.position("g1", "rival", "notes") == OPEN_START


async def test_a_search_beyond_the_watermark_waits_for_it(retriever):
    await apply(retriever, end=10)
    waiting = asyncio.create_task(found(retriever, known_at=20))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await apply(retriever, changes([point("p", recorded=(20, OPEN_END))]), start=10, end=20)
    assert await waiting == {"p"}


async def test_a_search_beyond_the_watermark_fails_in_time(retriever):
    await apply(retriever, end=10)
    with deadline(0.3), pytest.raises(BehindWatermark, match="known_at"):
        await found(retriever, known_at=11)


async def test_generations_live_side_by_side(retriever):
    await apply(retriever, changes([point("old")]), generation="g1")
    wide = changes([point("new")], vectors=np.ones((1, 3), dtype=np.float32))
    await apply(retriever, wide, generation="g2.b-1", end=20)
    assert await found(retriever) == {"old"}
    assert await found(retriever, generation="g2.b-1", vector=np.ones(3, dtype=np.float32)) == {"new"}
    assert await retriever.position("g1", "acme", "notes") == 10


async def test_an_unknown_generation_is_not_found(retriever):
    with pytest.raises(BehindWatermark, match="g9"):
        await found(retriever, generation="g9")
    assert await retriever.position("g9", "acme", "notes") == OPEN_START


@pytest.mark.parametrize("name", ["../g1", ".hidden", "a/b", "x" * 101, "g 1"])
async def test_a_generation_cannot_be_named_like_a_path(retriever, name):
    for attempt in (apply(retriever, generation=name), found(retriever, generation=name)):
        with pytest.raises(InvalidRequest, match="name"):
            await attempt


async def test_a_wrong_search_is_refused(retriever):
    await apply(retriever, changes([point("p")]))
    wrong = [
        {"limit": 0},
        {"limit": 1_001},
        {"vector": None},
        {"vector": np.ones(DIMENSIONS + 1, dtype=np.float32)},
        {"vector": np.ones((1, DIMENSIONS), dtype=np.float32)},
        {"vector": np.full(DIMENSIONS, np.nan, dtype=np.float32)},
    ]
    for asked in wrong:
        with pytest.raises(InvalidRequest):
            await found(retriever, **asked)


async def test_a_wrong_change_is_refused_and_moves_nothing(retriever):
    await apply(retriever, changes([point("p")]))
    wrong = [
        changes([point("early", recorded=(10, OPEN_END))]),
        changes([point("late", recorded=(21, OPEN_END))]),
        changes([point("empty", recorded=(15, OPEN_END), valid=(5, 5))]),
        changes(closes=[Close("p", 21)]),
        changes([point("x", recorded=(15, OPEN_END))], vectors=np.ones((2, DIMENSIONS), dtype=np.float32)),
        changes([point("x", recorded=(15, OPEN_END))], vectors=np.ones((1, 3), dtype=np.float32)),
        changes([point("x", recorded=(15, OPEN_END))], vectors=np.full((1, DIMENSIONS), np.nan, dtype=np.float32)),
    ]
    for batch in wrong:
        with pytest.raises(InvalidRequest):
            await apply(retriever, batch, start=10, end=20)
    with pytest.raises(Conflict, match="rebuild"):
        await apply(retriever, changes(closes=[Close("unknown", 15)]), start=10, end=20)
    with pytest.raises(InvalidRequest):
        await apply(retriever, start=10, end=9)
    assert await retriever.position("g1", "acme", "notes") == 10
    assert await found(retriever) == {"p"}


async def test_a_stretch_that_broke_off_shows_nothing_and_can_be_applied_again(retriever):
    await apply(retriever, changes([point("p")]))

    async def breaking():
        yield changes([point("half", recorded=(11, OPEN_END))], [Close("p", 12)])
        raise RuntimeError("the pipeline died")

    with pytest.raises((RuntimeError, asyncio.CancelledError)):
        await retriever.apply("g1", Stretch("acme", "notes", 10, 20), breaking())
    assert await found(retriever) == {"p"}
    with deadline(0.3), pytest.raises(BehindWatermark):
        await found(retriever, known_at=11)
    await apply(
        retriever,
        changes([point("half", recorded=(11, OPEN_END))], [Close("p", 12)]),
        changes([point("whole", recorded=(13, OPEN_END))]),
        start=10,
        end=20,
    )
    assert await found(retriever, known_at=11) == {"p", "half"}
    assert await found(retriever, known_at=20) == {"half", "whole"}


async def test_applies_of_one_collection_take_turns(retriever):
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow():
        yield changes([point("first", recorded=(5, OPEN_END))])
        entered.set()
        await go_on.wait()

    one = asyncio.create_task(retriever.apply("g1", Stretch("acme", "notes", OPEN_START, 10), slow()))
    await entered.wait()
    two = asyncio.create_task(apply(retriever, changes([point("second", recorded=(15, OPEN_END))]), start=10, end=20))
    await asyncio.sleep(0.05)
    assert not two.done()
    go_on.set()
    assert (await one, await two) == (10, 20)
    assert await found(retriever, known_at=20) == {"first", "second"}


async def test_a_restart_keeps_points_and_watermarks(index_dir):
    before = retriever_over("edge", index_dir)
    await apply(before, changes([point("p", text="owl"), point("gone")]), end=10)
    await apply(before, changes(closes=[Close("gone", 15)]), start=10, end=20)
    hits = (await before.search(query("owl", ANY, known_at=20))).hits
    await before.close()
    after = retriever_over("edge", index_dir)
    assert await after.position("g1", "acme", "notes") == 20
    assert (await after.search(query("owl", ANY, known_at=20))).hits == hits
    assert await found(after, known_at=14) == {"p", "gone"}
    await apply(after, changes([point("q", recorded=(25, OPEN_END))]), start=20, end=30)
    assert await found(after, known_at=30) == {"p", "q"}
    await after.close()


WORDS = ["owl", "fox", "night", "day", "tree", "river", "stone", "wind", "snow", "fire", "moon", "sun", "leaf", "root"]


async def test_edge_orders_random_rows_as_the_exhaustive_search_does(index_dir):
    rng = np.random.default_rng(7)
    rows, recorded = [], 0
    for n in range(600):
        recorded = 1 + n // 6
        ends = OPEN_END if n % 3 else recorded + int(rng.integers(1, 50))
        start = int(rng.integers(0, 100))
        text = " ".join(rng.choice(WORDS, size=int(rng.integers(3, 15))))
        item = f"i{int(rng.integers(0, 400))}"
        rows.append(point(f"p{n}", (recorded, ends), (start, start + 40), text, item, kind=str(n % 2)))
    vectors = rng.normal(size=(600, DIMENSIONS)).astype(np.float32)
    both = [retriever_over(name, index_dir) for name in ("memory", "edge")]
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


@pytest.fixture
async def stub(tmp_path):
    inside = retriever_over("memory", tmp_path)
    async with served(inside, tmp_path) as line:
        yield RetrieverStub(line)
    await inside.close()


async def test_a_stream_that_breaks_off_is_never_taken_for_a_whole_one(tmp_path):
    inside = retriever_over("memory", tmp_path)
    async with served(inside, tmp_path) as line:
        client = RetrieverClient(line)
        for n in range(100):
            with pytest.raises(asyncio.CancelledError):
                await client.apply("g1", Stretch("acme", f"notes-{n}", OPEN_START, 10), breaking_off())
        assert {await client.position("g1", "acme", f"notes-{n}") for n in range(100)} == {OPEN_START}
    await inside.close()


async def breaking_off():
    yield changes([point("half")])
    raise RuntimeError("the pipeline died")


async def test_a_message_without_scope_target_or_header_is_refused(stub):
    async def stream(*messages):
        for message in messages:
            yield message

    scope = {"tenant": "t", "collection": "c", "generation": "g"}
    wrong = [
        stub.Search(pb.SearchRequest(target=pb.TARGET_PASSAGES, text="x", limit=1)),
        stub.Search(pb.SearchRequest(scope=scope, target=pb.TARGET_PASSAGES, text="x", limit=1)),
        stub.Search(pb.SearchRequest(scope=scope | {"moment": {}}, text="x", limit=1)),
        stub.Position(pb.PositionRequest(tenant="t", collection="c")),
        stub.Position(pb.PositionRequest(generation="g", collection="c")),
        stub.Apply(stream()),
        stub.Apply(stream(pb.ApplyRequest(batch=pb.ApplyBatch()))),
        stub.Apply(stream(pb.ApplyRequest(header=pb.ApplyHeader(generation="g")))),
    ]
    for call in wrong:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_erased_document_is_gone_at_every_moment_and_its_neighbours_are_not(retriever):
    mine = [point(f"p{n}", recorded=(n, n + 1), text="owl", item_id="mine") for n in range(1, 4)]
    question = point("q", text="owl", item_id="mine", target=Target.QUESTIONS)
    await apply(retriever, changes([*mine, question, *(point(f"o{n}", text="owl") for n in range(600))]))
    await apply(retriever, changes([point("p1", text="owl", item_id="mine")]), tenant="rival")
    assert await retriever.erase("g1", "acme", "notes", "doc-mine") == 3
    for known_at in (1, 2, 3, 10):
        assert await found(retriever, known_at=known_at, text="owl") == {f"o{n}" for n in range(600)}
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
    kept = {f"o{n}" for n in range(900)}
    await apply(retriever, changes([point("p"), *(point(one) for one in kept)]))
    erasing = asyncio.ensure_future(retriever.erase("g1", "acme", "notes", "doc-p"))
    while not erasing.done():
        assert await found(retriever) - {"p"} == kept
    assert await erasing == 1 and await found(retriever) == kept


@pytest.mark.parametrize("restart", [False, True])
async def test_nothing_of_an_erased_document_lies_in_the_indexs_files(index_dir, restart):
    retriever = retriever_over("edge", index_dir)
    marked = point("p", item_id="marker-item", colour="marker-colour")
    await apply(retriever, changes([marked, point("other")]))
    assert holds(index_dir, b"marker-item") and holds(index_dir, b"marker-colour")
    await retriever.erase("g1", "acme", "notes", "doc-marker-item")
    if restart:
        await retriever.close()
        retriever = retriever_over("edge", index_dir)
        assert await found(retriever) == {"other"}
    assert not holds(index_dir, b"marker") and holds(index_dir, b"doc-other")
    await retriever.close()


async def test_a_rewrite_that_was_killed_leaves_the_index_as_it_was(index_dir):
    retriever = retriever_over("edge", index_dir)
    await apply(retriever, changes([point(f"p{n}") for n in range(300)]))
    await retriever.close()
    index = open_engine(RetrieverSettings(home=index_dir)).open("g1")
    steps = index.rewrite()
    assert next(steps)
    index._shard.close()  # no step more, no clearing away: as if killed
    half = index_dir / "index" / "g1" / "shard-half"
    half.mkdir()
    retriever = retriever_over("edge", index_dir)
    assert len(await found(retriever)) == 300
    assert [path.name for path in (index_dir / "index" / "g1").glob("shard*")] == ["shard"]
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
