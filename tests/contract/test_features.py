"""What every features node promises, in memory, on Feast's files, and through gRPC."""

import asyncio
import time
from dataclasses import dataclass

import pytest

from services.common.clients.features import FeaturesClient
from services.common.errors import BehindWatermark, Conflict, InvalidRequest, NotFound, ScopeMissing
from services.common.moment import OPEN_END, OPEN_START, Moment, parse_instant
from services.common.nodes.features import DOCUMENTS, FACTS, TENANTS, USERS, FeatureRow
from services.common.nodes.scope import Scope, Stretch
from services.common.rpc.client import call, channel, stream
from services.common.rpc.deadlines import deadline
from services.common.rpc.server import start
from services.features.backends.feast import FeastBackend
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.features.server import FeaturesServicer
from services.protos import common_pb2, features_pb2
from services.protos.features_pb2_grpc import FeaturesStub, add_FeaturesServicer_to_server

Y2019, Y2020, Y2021 = (parse_instant(f"{year}-01-01") for year in (2019, 2020, 2021))


@dataclass
class Node:
    features: object
    tenant: str = "t"
    collection: str = "c"

    async def append(self, start_, end, *rows, view=FACTS):
        async def batches():
            for row in rows:
                yield [row]

        return await self.features.append(view, Stretch(self.tenant, self.collection, start_, end), batches())

    async def read(self, as_of, known_at, *entities, view=FACTS):
        scope = Scope(self.tenant, self.collection, "g", Moment(as_of, known_at))
        return await self.features.read(scope, view, entities or ("q",))

    async def answer(self, as_of, known_at, entity="q"):
        (row,) = await self.read(as_of, known_at, entity)
        return row.values["answer"] if row.found else None


def fact(answer, event, created, entity="q"):
    return FeatureRow(entity, True, event, created, {"answer": answer, "fact_id": f"{entity}-{answer}"})


def none(event, created, entity="q"):
    return FeatureRow(entity, True, event, created, {"present": False})


@pytest.fixture(params=["memory", "feast", "grpc"])
async def features(request, tmp_path):
    backend = MemoryBackend() if request.param == "memory" else FeastBackend(tmp_path / "features")
    node = PointInTimeFeatures(backend, wait_seconds=0.2)
    if request.param != "grpc":
        yield node
    else:
        address = f"unix:{tmp_path}/f.sock"
        servicer = FeaturesServicer(node)
        server = await start(
            address, "almanac.features.v1.Features", lambda it: add_FeaturesServicer_to_server(servicer, it)
        )
        async with channel(address) as line:
            yield FeaturesClient(line)
        await server.stop(None)
    await backend.close()


@pytest.fixture
def node(features):
    return Node(features)


async def test_the_row_that_holds_is_the_latest_event_not_after_as_of(node):
    assert await node.append(OPEN_START, 100, fact("old", Y2019, 10), fact("new", Y2020, 20)) == 100
    assert await node.answer(Y2019 - 1, 100) is None
    assert await node.answer(Y2019, 100) == "old"
    assert await node.answer(Y2020 - 1, 100) == "old"
    assert await node.answer(Y2020, 100) == "new"


async def test_a_late_value_is_not_seen_before_it_was_recorded(node):
    await node.append(OPEN_START, 100, fact("early", Y2019, 10), fact("late", Y2020, 50))
    assert await node.answer(Y2021, 49) == "early"
    assert await node.answer(Y2021, 50) == "late"
    assert await node.answer(Y2021, 9) is None


async def test_of_the_same_event_the_last_created_counts(node):
    await node.append(OPEN_START, 100, fact("wrong", Y2019, 10), fact("right", Y2019, 50), fact("middle", Y2019, 30))
    seen = [await node.answer(Y2020, known_at) for known_at in (10, 29, 30, 49, 50, 100)]
    assert seen == ["wrong", "wrong", "middle", "middle", "right", "right"]


async def test_a_correction_in_a_later_stretch_leaves_the_past_of_the_record(node):
    await node.append(OPEN_START, 100, fact("wrong", Y2019, 10))
    await node.append(100, 200, fact("right", Y2019, 150))
    assert [await node.answer(Y2020, known_at) for known_at in (100, 149, 150, 200)] == ["wrong"] * 2 + ["right"] * 2


async def test_over_a_gap_nothing_is_found(node):
    await node.append(OPEN_START, 100, fact("a", Y2019, 10), none(Y2020, 10), fact("b", Y2021, 10))
    assert [await node.answer(when, 100) for when in (Y2019, Y2020, Y2021 - 1, Y2021)] == ["a", None, None, "b"]
    (row,) = await node.read(Y2020, 100)
    assert row == FeatureRow("q")


async def test_a_row_not_found_states_a_gap_too(node):
    await node.append(OPEN_START, 100, fact("a", Y2019, 10), FeatureRow("q", False, Y2020, 10, {"valid_to": Y2021}))
    assert await node.answer(Y2020, 100) is None


async def test_a_row_comes_back_as_it_was_given(node):
    values = {
        "present": True,
        "answer": "Zürich",
        "also_accepted": '["Zurich"]',
        "question": "Where?",
        "fact_id": "f",
        "source": "s",
        "valid_to": OPEN_END,
    }
    await node.append(OPEN_START, 100, FeatureRow("q", True, Y2019, 10, values))
    assert await node.read(Y2019, 100) == [FeatureRow("q", True, Y2019, 10, values)]


async def test_entities_are_answered_in_order_unknown_and_repeated_ones_included(node):
    await node.append(OPEN_START, 100, fact("a", Y2019, 10, "one"), fact("b", Y2019, 10, "two"))
    rows = await node.read(Y2020, 100, "two", "none", "one", "two")
    assert [(row.entity, row.values.get("answer")) for row in rows] == [
        ("two", "b"),
        ("none", None),
        ("one", "a"),
        ("two", "b"),
    ]
    assert await node.features.read(Scope("t", "c", "g", Moment(Y2020, 100)), FACTS, []) == []


async def test_tenants_and_collections_see_only_their_own(node):
    homes = [Node(node.features, tenant, collection) for tenant in "ab" for collection in "cd"]
    for home in homes:
        await home.append(OPEN_START, 100, fact(f"{home.tenant}{home.collection}", Y2019, 10))
    assert [await home.answer(Y2020, 100) for home in homes] == ["ac", "ad", "bc", "bd"]
    assert await Node(node.features, "a", "c").answer(Y2020, 100, "q\x1fc\x1fq") is None
    with pytest.raises(InvalidRequest):
        await Node(node.features, "a\x1fc", "d").answer(Y2020, OPEN_START)


async def test_views_are_apart(node):
    await node.append(OPEN_START, 100, fact("a", Y2019, 10))
    document = FeatureRow("q", True, Y2019, 10, {"length_chars": 7})
    await node.append(OPEN_START, 100, document, view=DOCUMENTS)
    (row,) = await node.read(Y2020, 100, view=DOCUMENTS)
    assert row.values["length_chars"] == 7 and "answer" not in row.values


async def test_every_year_from_1_to_9999_can_be_asked(node):
    year_1150, year_2500 = parse_instant("1150-06-01"), parse_instant("2500-01-01")
    await node.append(
        OPEN_START,
        100,
        fact("first", OPEN_START, 10),
        fact("medieval", year_1150, 10),
        fact("modern", Y2019, 10),
        fact("far", year_2500, 10),
        fact("last", OPEN_END, 10),
    )
    moments = (OPEN_START, year_1150 - 1, year_1150, parse_instant("1700-01-01"), Y2019, year_2500, OPEN_END)
    seen = [await node.answer(when, 100) for when in moments]
    assert seen == ["first", "first", "medieval", "medieval", "modern", "far", "last"]
    (row,) = await node.read(parse_instant("1700-01-01"), 100)
    assert row.event == year_1150


async def test_appending_again_doubles_nothing_and_moves_nothing_back(node):
    await node.append(OPEN_START, 100, fact("a", Y2019, 10))
    await node.append(100, 200, fact("b", Y2019, 150))
    assert await node.append(OPEN_START, 100, fact("a", Y2019, 10)) == 200
    assert await node.append(50, 300, fact("b", Y2019, 150), fact("c", Y2019, 250)) == 300
    assert [await node.answer(Y2020, known_at) for known_at in (100, 200, 300)] == ["a", "b", "c"]


async def test_a_gap_in_the_record_is_refused(node):
    await node.append(OPEN_START, 100)
    with pytest.raises(Conflict, match="append what lies between"):
        await node.append(101, 200, fact("a", Y2019, 150))
    assert await node.features.position(FACTS, "t", "c") == 100
    assert await node.features.position(FACTS, "t", "other") == OPEN_START


async def test_rows_that_do_not_belong_are_refused_and_nothing_is_applied(node):
    wrong = (
        fact("late", Y2019, 101),
        FeatureRow("q", True, Y2019, 10, {"colour": "red"}),
        FeatureRow("q", True, Y2019, 10, {"answer": 7}),
    )
    for row in wrong:
        with pytest.raises(InvalidRequest):
            await node.append(OPEN_START, 100, fact("good", Y2019, 10), row)
    assert await node.features.position(FACTS, "t", "c") == OPEN_START


async def test_an_unknown_view_is_not_found(node):
    with pytest.raises(NotFound):
        await node.read(Y2019, OPEN_START, view="profiles")
    with pytest.raises(NotFound):
        await node.append(OPEN_START, 100, view="profiles")
    with pytest.raises(NotFound):
        await node.features.position("profiles", "t", "c")


async def test_a_read_waits_for_the_watermark_and_then_sees_what_it_brought(node):
    await node.append(OPEN_START, 100, fact("old", Y2019, 10))
    reading = asyncio.create_task(node.answer(Y2020, 200))
    await asyncio.sleep(0.03)
    assert not reading.done()
    await node.append(100, 200, fact("new", Y2019, 150))
    assert await reading == "new"


async def test_a_read_beyond_the_watermark_gives_up_in_time(node):
    await node.append(OPEN_START, 100, fact("old", Y2019, 10))
    with pytest.raises(BehindWatermark):
        await node.answer(Y2020, 101)
    began = time.monotonic()
    with deadline(0.12), pytest.raises(BehindWatermark):
        await node.answer(Y2020, 101)
    assert time.monotonic() - began < 0.19


async def test_many_small_appends_read_like_one(node):
    await node.append(OPEN_START, 1, *(fact(f"{i}", Y2019 + i, 1, f"q{i % 7}") for i in range(50)))
    for i in range(1, 40):
        await node.append(i, i + 1, fact(f"again {i}", Y2019 + i, i + 1, f"q{i % 7}"))
    assert await node.answer(Y2019 + 22, 22, "q1") == "22"
    assert await node.answer(Y2019 + 22, 23, "q1") == "again 22"


async def test_a_request_without_scope_is_refused():
    with pytest.raises(ScopeMissing):
        Scope("", "c", "g", Moment(0, 0))


async def test_an_erased_entity_is_gone_at_every_moment_and_its_neighbours_are_not(node):
    await node.append(OPEN_START, 50, fact("mine", Y2019, 10), fact("other", Y2019, 10, entity="r"))
    await node.append(50, 100, fact("early", parse_instant("0100-01-01"), 60), fact("newer", Y2020, 60))
    other = Node(node.features, tenant="u")
    await other.append(OPEN_START, 100, fact("theirs", Y2019, 10))
    assert await node.features.erase(FACTS, "t", "c", "q") >= 3
    for as_of, known_at in ((Y2019, 10), (Y2021, 100), (Y2019, 100)):
        assert await node.answer(as_of, known_at) is None
        assert await node.answer(as_of, known_at, "r") == "other"
        assert await other.answer(as_of, known_at) == "theirs"
    assert await node.features.position(FACTS, "t", "c") == 100
    assert await node.features.erase(FACTS, "t", "c", "q") == 0


async def test_dropped_rows_can_be_appended_anew(node):
    rows = (fact("old", Y2019, 10), fact("new", Y2020, 20))
    await node.append(OPEN_START, 100, *rows)
    other = Node(node.features, collection="other")
    await other.append(OPEN_START, 100, fact("theirs", Y2019, 10))
    await node.features.drop(FACTS, "t", "c")
    assert await node.features.position(FACTS, "t", "c") == OPEN_START
    with pytest.raises(BehindWatermark):
        await node.answer(Y2021, 100)
    await node.append(OPEN_START, 100, *rows)
    assert await node.answer(Y2019, 100) == "old" and await node.answer(Y2021, 100) == "new"
    assert await other.answer(Y2021, 100) == "theirs"


async def test_it_describes_its_views_and_what_the_tenants_rows_hold(node):
    await node.append(OPEN_START, 100, fact("four", Y2019, 10), fact("", Y2020, 20), none(Y2021, 30))
    await Node(node.features, tenant="u").append(OPEN_START, 200, fact("theirs, which is longer", Y2019, 10))
    states = {state.name: state for state in await node.features.describe("t")}
    assert states.keys() >= {FACTS, DOCUMENTS, TENANTS, USERS}
    assert (states[FACTS].rows, states[FACTS].watermarks) == (4, {"c": 100})
    assert states[DOCUMENTS].rows == 0 and states[DOCUMENTS].watermarks == {}
    (state,) = await node.features.describe("t", FACTS, statistics=True)
    answer = next(field for field in state.fields if field.name == "answer")
    assert (answer.type, answer.rows, answer.nulls, answer.empty) == ("str", 2, 0, 1)
    assert (answer.least, answer.most) == (0, 4)
    with pytest.raises(NotFound):
        await node.features.describe("t", "no-such-view")
    with pytest.raises(ScopeMissing):
        await node.features.describe("")


async def test_no_reading_is_answered_without_tenant_and_moment(tmp_path):
    """At the door itself: the client cannot even say such a request."""
    address = f"unix:{tmp_path}/f.sock"
    node = PointInTimeFeatures(MemoryBackend())
    server = await start(
        address, "almanac.features.v1.Features", lambda it: add_FeaturesServicer_to_server(FeaturesServicer(node), it)
    )
    whole = common_pb2.Scope(
        tenant="t", collection="c", generation="g", moment=common_pb2.Moment(as_of_us=1, known_at_us=1)
    )
    nameless, timeless = common_pb2.Scope(), common_pb2.Scope()
    nameless.CopyFrom(whole)
    nameless.ClearField("tenant")
    timeless.CopyFrom(whole)
    timeless.ClearField("moment")
    header, asked = features_pb2.TrainingHeader(view=FACTS, collection="c"), features_pb2.Asked(entity="q")

    async def training(header, asked):
        yield features_pb2.TrainingRequest(header=header)
        yield features_pb2.TrainingRequest(batch=features_pb2.TrainingBatch(asked=[asked]))

    async with channel(address) as line:
        stub = FeaturesStub(line)
        for scope in (nameless, timeless):
            for online in (False, True):
                request = features_pb2.ReadRequest(scope=scope, view=FACTS, entities=["q"], online=online)
                with pytest.raises(ScopeMissing):
                    await call(stub.Read, request)
        tenant = features_pb2.TrainingHeader(tenant="t", view=FACTS, collection="c")
        for lacking in ((tenant, asked), (header, features_pb2.Asked(entity="q", at_us=1))):
            with pytest.raises(ScopeMissing):
                async for _ in stream(stub.Training, training(*lacking)):
                    pass
    await server.stop(None)
