"""The node against Feast itself: its definitions, its online store and its own point-in-time join."""

import asyncio
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.common.errors import Conflict, InvalidRequest, NotFound, ScopeMissing
from services.common.moment import OPEN_END, OPEN_START, Moment, instant
from services.common.nodes.features import FACTS, FeatureRow
from services.common.nodes.scope import Scope, Stretch
from services.features.backends import feast_store
from services.features.backends.feast import FeastBackend
from services.features.features import PointInTimeFeatures
from services.features.views import VIEWS, entity_key, stored_row

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Downcasting object dtype arrays:FutureWarning"),
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGIN, END = instant(datetime(2001, 1, 1, tzinfo=UTC)), instant(datetime(2020, 1, 1, tzinfo=UTC))
QUESTIONS = [f"q{number}" for number in range(40)]


@pytest.fixture(scope="module")
def home():
    """A directory with the definitions applied: Feast takes seconds for that."""
    with tempfile.TemporaryDirectory() as directory:
        backend = FeastBackend(Path(directory))
        asyncio.run(_prepare(backend))
        yield Path(directory)


async def _prepare(backend):
    await backend.prepare()
    await backend.close()


@pytest.fixture
async def backend(home):
    (home / "watermarks.json").unlink(missing_ok=True)
    for file in home.glob("*/*/*.parquet"):
        file.unlink()
    opened = FeastBackend(home)
    yield opened
    await opened.close()


async def fill(backend, collection, events):
    """1,000 rows in one stretch; `events` gives the event of a row by its number."""
    dice = random.Random(11)
    rows = []
    for number in range(1000):
        created = dice.randrange(BEGIN, END)
        values = {"answer": f"answer {number}", "fact_id": f"f{number}", "valid_to": number}
        rows.append(FeatureRow(dice.choice(QUESTIONS), True, events(dice, number), created, values))

    async def batches():
        yield rows

    await PointInTimeFeatures(backend).append(FACTS, Stretch("t", collection, OPEN_START, END), batches())


async def compare(backend, collection, count=400):
    """How many reads of (question, moment) find something, and how many of all differ from Feast's own join.

    Feast leaves out a question that has later events only; that is read as nothing found.
    """
    import pandas as pd

    dice = random.Random(12)
    asked = {(dice.choice(QUESTIONS), dice.randrange(BEGIN, END)) for _ in range(count)}
    table = pd.DataFrame(
        {
            "entity_key": [entity_key("t", collection, question) for question, _ in asked],
            "event_timestamp": [EPOCH + timedelta(microseconds=when) for _, when in asked],
        }
    )
    store = backend._feast._open()
    service = store.get_feature_service("facts_v1")
    joined = store.get_historical_features(table, service, filter_by_created_timestamp=True).to_df()
    said = {
        (key, instant(when.to_pydatetime())): None if pd.isna(fact) else fact
        for key, when, fact in zip(joined.entity_key, joined.event_timestamp, joined.fact_id, strict=True)
    }
    ours = {
        (entity_key("t", collection, question), when): row and row.values["fact_id"]
        for question, when in asked
        for row in backend.latest(FACTS, [entity_key("t", collection, question)], when, when)
    }
    return sum(fact is not None for fact in ours.values()), sum(ours[at] != said.get(at) for at in ours)


async def test_reads_equal_feasts_own_join_with_created_time_filtering(backend):
    await fill(backend, "distinct", lambda dice, number: BEGIN + dice.randrange(0, 600_000) * 1_000_000_000 + number)
    found, different = await compare(backend, "distinct")
    assert found > 300 and different == 0


async def test_restated_events_equal_feasts_own_join(backend):
    await fill(backend, "ties", lambda dice, _: BEGIN + dice.randrange(6) * 10**14)
    found, different = await compare(backend, "ties")
    assert found > 300 and different == 0


async def test_a_materialization_that_was_killed_does_not_block_the_next(backend):
    from feast.feature_view import FeatureViewState

    await fill(backend, "c", lambda *_: BEGIN)
    store = backend._feast._open()
    view = store.get_feature_view(FACTS)
    view.state = FeatureViewState.MATERIALIZING
    store.registry.apply_feature_view(view, store.project, commit=True)
    assert await backend.materialize(FACTS) > 0


async def test_nothing_to_materialize_is_no_error(backend):
    assert await backend.materialize(FACTS) > 0


async def test_feast_and_the_node_define_the_same_views(backend):
    from feast.types import Bool, Float64, Int64, String

    types = {str: String, int: Int64, bool: Bool, float: Float64}
    store = backend._feast._open()
    for name, defined in VIEWS.items():
        (projection,) = store.get_feature_service(f"{name}_v1").feature_view_projections
        view = store.get_feature_view(projection.name)
        assert projection.name == name and view.join_keys == ["entity_key"]
        assert {field.name: field.dtype for field in view.features} == {
            key: types[kind] for key, kind in defined.fields.items()
        }
        assert all((view.owner, view.description, view.tags, *(field.description for field in view.features)))
    described = [*store.list_entities(), *store.list_data_sources(), *store.list_feature_services()]
    assert len(described) >= 4 + len(VIEWS) * 2
    assert all(one.owner and one.description and one.tags for one in described if not one.name.startswith("__"))


async def test_an_erased_entity_leaves_the_online_store_and_every_file(backend, home):
    async def batches():
        for entity in ("erased-entity", "kept-entity"):
            row = FeatureRow(entity, True, BEGIN, BEGIN, {"answer": f"of the {entity}"})
            yield [
                FeatureRow(
                    entity_key("t", "erase", row.entity), True, BEGIN, BEGIN, stored_row(VIEWS[FACTS], "", row).values
                )
            ]

    await backend.append(FACTS, Stretch("t", "erase", OPEN_START, END), batches())
    await backend.materialize(FACTS)
    assert b"erased-entity" in (home / "online.db").read_bytes()
    assert await backend.erase(FACTS, entity_key("t", "erase", "erased-entity")) == 1
    held = b"".join(path.read_bytes() for path in home.glob("online.db*"))
    assert b"erased-entity" not in held and b"kept-entity" in held
    assert await backend.erase(FACTS, entity_key("t", "erase", "erased-entity")) == 0


SHELVES = """
from feast import Entity, FeatureView, Field, FileSource
from feast.data_format import ParquetFormat
from feast.types import {kind}
from feast.value_type import ValueType

shelf = Entity(name="shelf", join_keys=["entity_key"], value_type=ValueType.STRING)
source = FileSource(name="shelves_source", path="offline/shelves", file_format=ParquetFormat(),
                    timestamp_field="event_timestamp", created_timestamp_column="created")
shelves = FeatureView(name="shelves", entities=[shelf], schema=[Field(name="quota", dtype={kind})], source=source)
"""


async def test_a_new_view_needs_only_its_definition_and_keeps_its_types(tmp_path, monkeypatch):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "shelves.py").write_text(SHELVES.format(kind="Float64"))
    monkeypatch.setattr(feast_store, "_definitions", lambda: tmp_path / "repo")
    backend = FeastBackend(tmp_path / "home")
    features = PointInTimeFeatures(backend)
    assert "+ shelves" in await backend.apply(dry_run=True)
    with pytest.raises(NotFound, match="shelves"):
        await features.position("shelves", "t", "c")
    preparing = asyncio.create_task(features.prepare())
    await asyncio.sleep(0)
    assert await features.position("shelves", "t", "c") == OPEN_START

    async def batches():
        yield [FeatureRow("u", True, BEGIN, BEGIN, {"quota": 2.5})]

    await features.append("shelves", Stretch("t", "c", OPEN_START, END), batches())
    await preparing
    assert backend.latest("shelves", [entity_key("t", "c", "u")], END, END)[0].values == {"quota": 2.5}
    asked = [("u", BEGIN - 1), ("u", END), ("v", END)]
    assert [row.values for row in await features.training("t", "c", "shelves", asked)] == [{}, {"quota": 2.5}, {}]
    assert await features.materialize("shelves") > 0
    ever = Scope("t", "c", "g", Moment(OPEN_END, OPEN_END))
    (row,) = await features.read(ever, "shelves", ["u"], online=True)
    assert row.values == {"quota": 2.5}

    (tmp_path / "repo" / "shelves.py").write_text(SHELVES.format(kind="String"))
    with pytest.raises(Conflict, match="quota is float on record and cannot become str"):
        await backend.apply(dry_run=True)
    await backend.close()
    again = FeastBackend(tmp_path / "home")
    with pytest.raises(Conflict, match="refused"):
        await again.prepare()
    assert again.latest("shelves", [entity_key("t", "c", "u")], END, END)[0].values == {"quota": 2.5}
    await again.close()


async def test_what_feast_cannot_date_is_refused_as_a_training_row(backend):
    features = PointInTimeFeatures(backend)
    with pytest.raises(InvalidRequest, match="1678 to 2261"):
        await features.training("t", "c", FACTS, [("q", instant(datetime(1150, 1, 1, tzinfo=UTC)))])
    with pytest.raises(ScopeMissing):
        await features.training("", "c", FACTS, [("q", BEGIN)])
    assert await features.training("t", "c", FACTS, [("q", BEGIN)]) == [FeatureRow("q")]
