"""What Feast's online store promises, SQLite and Redis alike: the values that hold now, and nothing erased."""

import asyncio
import random
import socket
import subprocess
import time

import pytest

from services.admin.valkey import valkey_argv
from services.common.clients.features import FeaturesClient
from services.common.errors import Conflict, InvalidRequest, ScopeMissing
from services.common.moment import OPEN_END, OPEN_START, Moment, now, parse_instant
from services.common.nodes.features import DOCUMENTS, FACTS, USERS, FeatureRow
from services.common.nodes.scope import Scope, Stretch
from services.common.rpc.client import channel
from services.common.rpc.server import start
from services.features.backends.feast import FeastBackend
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.features.server import FeaturesServicer
from services.features.views import entity_key
from services.protos.features_pb2_grpc import add_FeaturesServicer_to_server
from tests.support import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

EARLY, LONG_AGO, LATELY, FAR = (parse_instant(f"{year}-01-01") for year in ("1150", "1990", "2020", "2200"))
END = parse_instant("2021-01-01")
EVER = Moment(OPEN_END, OPEN_END)
ENTITIES = [f"q{number}" for number in range(120)]


def redis(directory):
    """A real server on a port of its own."""
    port = free_port()
    options = ("--port", str(port), "--bind", "127.0.0.1")
    server = subprocess.Popen([*valkey_argv(directory / "v.sock", directory), *options], stdout=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"127.0.0.1:{port}"
        time.sleep(0.05)
    server.kill()
    raise AssertionError("the server does not listen")


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """By the kind of online store a directory with the definitions applied, and where the store is."""
    made, servers = {}, []

    def home(kind):
        if kind not in made:
            directory, address = tmp_path_factory.mktemp(kind), ""
            if kind == "redis":
                server, address = redis(directory)
                servers.append(server)
            asyncio.run(prepared(directory / "features", address))
            made[kind] = directory / "features", address
        return made[kind]

    yield home
    for server in servers:
        server.terminate()
        server.wait(20)


@pytest.fixture(params=["sqlite", "redis"])
def home(request, homes):
    return homes(request.param)


@pytest.fixture(params=["memory", "sqlite", "redis"])
def any_home(request, homes):
    return None if request.param == "memory" else homes(request.param)


async def prepared(directory, address):
    backend = FeastBackend(directory, address)
    await backend.prepare()
    await backend.close()


@pytest.fixture
async def backend(home):
    opened = FeastBackend(*home)
    yield opened
    for view in (FACTS, DOCUMENTS):
        await opened.drop(view, "t", "c")
    await opened.close()


@pytest.fixture
async def served(any_home, tmp_path):
    """The node over gRPC."""
    backend = FeastBackend(*any_home) if any_home else MemoryBackend()
    address, servicer = f"unix:{tmp_path}/f.sock", FeaturesServicer(PointInTimeFeatures(backend))
    server = await start(
        address, "almanac.features.v1.Features", lambda it: add_FeaturesServicer_to_server(servicer, it)
    )
    async with channel(address) as line:
        yield FeaturesClient(line)
    for collection in ("c", "c2"):
        await backend.drop(FACTS, "t", collection)
    await server.stop(None)
    await backend.close()


async def extend(served, end, *rows, collection="c"):
    async def batches():
        yield rows

    begin = await served.position(FACTS, "t", collection)
    await served.append(FACTS, Stretch("t", collection, begin, end), batches())


async def append(backend, start, end, *rows, view=FACTS):
    async def batches():
        yield rows

    await PointInTimeFeatures(backend).append(view, Stretch("t", "c", start, end), batches())


def fact(entity, answer, event, created, present=True):
    return FeatureRow(entity, present, event, created, {"answer": answer, "valid_to": created})


def read(backend, *entities, view=FACTS, field="answer"):
    store = backend._feast._open()
    rows = [{"entity_key": entity_key("t", "c", entity)} for entity in entities]
    found = store.get_online_features(store.get_feature_service(f"{view}_v1"), rows).to_dict()
    return [value if present else None for value, present in zip(found[field], found["present"], strict=True)]


async def test_it_equals_the_index_now(backend):
    """Ties, several files, gaps, rows from before what Feast can date and rows of the future included."""
    dice, begin = random.Random(3), OPEN_START
    for end in (1000, 2000, 3000, 4000):
        rows = [
            fact(dice.choice(ENTITIES), f"{created}", dice.choice([OPEN_START, EARLY, LONG_AGO, LATELY, FAR]), created)
            for created in dice.sample(range(end - 999, end), 400)
        ]
        rows += [fact(dice.choice(ENTITIES), "", LATELY, end, present=False) for _ in range(5)]
        await append(backend, begin, end, *rows)
        begin = end
    reached = await backend.materialize(FACTS)
    assert abs(reached - now()) < 60_000_000
    keys = [entity_key("t", "c", entity) for entity in ENTITIES]
    expected = [
        row.values["answer"] if row and row.found else None for row in backend.latest(FACTS, keys, reached, reached)
    ]
    assert len(set(expected)) > 90 and None in expected
    assert read(backend, *ENTITIES) == expected


async def test_a_late_correction_of_an_early_event_reaches_it(backend):
    for end, event, answer in ((1, 10, "early"), (2, 20, "wrong"), (3, 20, "right"), (4, 5, "old")):
        await append(backend, end - 1 if end > 1 else OPEN_START, end, fact("late", answer, event, end))
        await backend.materialize(FACTS)
    assert read(backend, "late") == ["right"]


async def test_materializing_again_changes_nothing(backend):
    await append(backend, OPEN_START, 9, fact("again", "same", LONG_AGO, 5))
    for _ in range(2):
        await backend.materialize(FACTS)
        assert read(backend, "again", "never-seen") == ["same", None]


async def test_after_the_first_time_only_what_changed_is_written(backend, monkeypatch):
    await backend.materialize(DOCUMENTS)  # loads Feast, which takes seconds
    soon = now() + 4_000_000
    rows = [fact("soon", "future", soon, 7), fact("early", "old", EARLY, 6)]
    await append(backend, OPEN_START, 9, fact("soon", "present", LONG_AGO, 5), *rows)
    await backend.materialize(FACTS)
    assert read(backend, "soon", "early") == ["present", "old"]
    written = []
    write = backend._feast.write
    monkeypatch.setattr(backend._feast, "materialize", None)
    monkeypatch.setattr(backend._feast, "write", lambda view, rows: (written.append(len(rows)), write(view, rows)))
    await append(backend, 9, 19, fact("early", "corrected", OPEN_START, 15), fact("early", "new", EARLY, 16))
    await backend.materialize(FACTS)
    assert read(backend, "early") == ["new"]
    await asyncio.sleep(max(0.0, (soon - now()) / 1e6) + 0.01)
    await backend.materialize(FACTS)
    assert read(backend, "soon", "early") == ["future", "new"]
    assert sum(written) == 2


async def test_an_erased_entity_leaves_it_and_its_neighbours_stay(backend):
    await append(backend, OPEN_START, 9, fact("erased", "gone", LONG_AGO, 5), fact("kept", "here", LONG_AGO, 6))
    await backend.materialize(FACTS)
    assert read(backend, "erased", "kept") == ["gone", "here"]
    assert await backend.erase(FACTS, entity_key("t", "c", "erased")) == 1
    assert read(backend, "erased", "kept") == [None, "here"]
    await backend.materialize(FACTS)
    assert read(backend, "erased", "kept") == [None, "here"]


async def test_views_are_apart(backend):
    await append(backend, OPEN_START, 9, fact("both", "a fact", LONG_AGO, 5))
    document = FeatureRow("both", True, LONG_AGO, 5, {"length_chars": 7})
    await append(backend, OPEN_START, 9, document, view=DOCUMENTS)
    for view in (FACTS, DOCUMENTS):
        await backend.materialize(view)
    assert read(backend, "both") == ["a fact"]
    assert read(backend, "both", view=DOCUMENTS, field="length_chars") == [7]


async def test_dropped_rows_leave_it_and_their_neighbours_stay(served):
    for collection in ("c", "c2"):
        await extend(served, 100, fact("q", f"of {collection}", LATELY, 10), collection=collection)
    await served.materialize(FACTS)
    await served.drop(FACTS, "t", "c")
    await extend(served, 100)
    for collection, expected in (("c", []), ("c2", ["of c2"])):
        rows = await served.read(Scope("t", collection, "g", EVER), FACTS, ["q"], online=True)
        assert [row.values["answer"] for row in rows if row.found] == expected


async def test_a_reading_of_it_is_for_now_and_for_no_moment_before(served):
    rows = (fact("q", "old", LONG_AGO, 10), fact("q", "new", LATELY, 20), fact("gap", "", LATELY, 30, present=False))
    await extend(served, 100, *rows)
    with pytest.raises(Conflict, match="not materialized"):
        await served.read(Scope("t", "c", "g", EVER), FACTS, ["q"], online=True)
    reached = await served.materialize(FACTS)
    found = await served.read(Scope("t", "c", "g", EVER), FACTS, ["q", "gap", "nobody"], online=True)
    assert [row.values.get("answer") for row in found] == ["new", None, None]
    assert [row.found for row in found] == [True, False, False]
    assert await served.read(Scope("t", "c", "g", EVER), FACTS, [], online=True) == []
    for moment in (Moment(LATELY, OPEN_END), Moment(reached - 1, OPEN_END), Moment(OPEN_END, 99)):
        with pytest.raises(Conflict, match="not before"):
            await served.read(Scope("t", "c", "g", moment), FACTS, ["q"], online=True)


async def test_a_training_set_holds_what_held_at_each_instant_as_known_at_it(served):
    known, corrected = LATELY + 10, END + 10
    await extend(served, corrected, fact("q", "wrong", LONG_AGO, known), fact("q", "right", LONG_AGO, corrected))
    asked = [("q", known - 1), ("q", known), ("q", corrected), ("nobody", corrected)]
    rows = await served.training("t", "c", FACTS, asked)
    assert [row.entity for row in rows] == ["q", "q", "q", "nobody"]
    assert [row.values.get("answer") for row in rows] == [None, "wrong", "right", None]
    with pytest.raises(ScopeMissing):
        await served.training("", "c", FACTS, asked)
    with pytest.raises(InvalidRequest, match="1678 to 2261"):
        await served.training("t", "c", FACTS, [("q", EARLY)])


async def test_definitions_that_are_applied_change_nothing_when_applied_again(served):
    assert await served.apply(dry_run=True) == ["nothing changes"]


async def test_what_is_pushed_after_the_first_time_reaches_it(served):
    for end, plan in ((100, "free"), (200, "team")):

        async def batches(end=end, plan=plan):
            yield [FeatureRow("ann", True, end, end, {"plan": plan})]

        begin = await served.position(USERS, "t", "c")
        await served.append(USERS, Stretch("t", "c", begin, end), batches())
        await served.materialize(USERS)
        (row,) = await served.read(Scope("t", "c", "g", EVER), USERS, ["ann"], online=True)
        assert row.values["plan"] == plan
    await served.drop(USERS, "t", "c")
