"""What the features node keeps on disk: durable, replaced at once, compacted without loss."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from services.common.errors import Conflict, InvalidRequest
from services.common.moment import OPEN_START, parse_instant
from services.common.nodes.features import DOCUMENTS, FACTS, FeatureRow
from services.common.nodes.scope import Stretch
from services.features.backends import open_backend
from services.features.backends.feast import FeastBackend
from services.features.backends.parquet import stretch_name
from services.features.backends.rows import to_table
from services.features.backends.watermarks import Watermarks
from services.features.settings import FeaturesSettings
from services.features.span import FEAST_SPAN
from services.features.views import VIEWS, entity_key, stored_row

KEY = entity_key("t", "c", "q")


def rows(*entries):
    return [stored_row(VIEWS[FACTS], KEY, FeatureRow("q", True, e, c, {"answer": text})) for text, e, c in entries]


async def append(backend, start, end, *entries):
    async def batches():
        yield rows(*entries)

    await backend.append(FACTS, Stretch("t", "c", start, end), batches())


def answers(backend, as_of, *known_at):
    found = [backend.latest(FACTS, [KEY], as_of, when)[0] for when in known_at]
    return [row and row.values["answer"] for row in found]


@pytest.fixture
async def opened(tmp_path):
    backends = []

    def open_again():
        for backend in backends:
            backend._lock.close()
        backends.append(FeastBackend(tmp_path))
        return backends[-1]

    yield open_again
    await backends[-1].close()


async def test_a_restart_forgets_nothing(opened):
    first = opened()
    await append(first, OPEN_START, 100, ("old", OPEN_START, 10), ("new", 0, 50))
    await append(first, 100, 200, ("newer", 0, 150))
    again = opened()
    assert again.watermark(FACTS, "t", "c") == 200
    assert again.watermark(DOCUMENTS, "t", "c") == OPEN_START
    for backend in (first, again):
        assert answers(backend, -1, 9, 10, 200) == [None, "old", "old"]
        assert answers(backend, 1, 10, 50, 149, 150) == ["old", "new", "new", "newer"]


async def test_killed_between_file_and_watermark_the_stretch_is_appended_again_and_nothing_doubles(opened, monkeypatch):
    backend = opened()
    await append(backend, OPEN_START, 100, ("a", 0, 10))
    with monkeypatch.context() as patch:
        patch.setattr(Watermarks, "advance", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            await append(backend, 100, 200, ("b", 0, 150), ("early", OPEN_START, 150))
    again = opened()
    assert again.watermark(FACTS, "t", "c") == 100
    assert answers(again, 1, 100) == ["a"]
    await append(again, 100, 300, ("b", 0, 150), ("early", OPEN_START, 150), ("c", 0, 250))
    for backend in (again, opened()):
        assert backend.watermark(FACTS, "t", "c") == 300
        assert answers(backend, 1, 100, 150, 250) == ["a", "b", "c"]
        assert len(backend._stores[FACTS]) == 4


async def test_a_second_node_on_the_same_directory_is_refused(opened, tmp_path):
    opened()
    with pytest.raises(Conflict, match="another features node"):
        FeastBackend(tmp_path)


async def test_feast_sees_what_holds_since_before_its_span_and_nothing_it_cannot_date(opened, tmp_path):
    backend, year = opened(), lambda text: parse_instant(f"{text}-01-01")
    entries = [("first", OPEN_START, 10), ("second", year("1150"), 20), ("third", year("1150"), 30)]
    await append(backend, OPEN_START, 100, *entries, ("now", year("2000"), 20), ("far", year("2500"), 20))
    table = pq.read_table(tmp_path / "offline" / FACTS)
    seen = sorted(zip(*(table.column(name).to_pylist() for name in ("created_us", "answer", "event_us")), strict=True))
    assert seen == [
        (10, "first", OPEN_START),
        (20, "now", year("2000")),
        (20, "second", year("1150")),
        (30, "third", year("1150")),
    ]
    stamps = table.column("event_timestamp").cast("int64").to_numpy()
    assert set(stamps) == {FEAST_SPAN.start, year("2000")}


async def test_many_small_files_become_one_and_lose_nothing(opened, tmp_path):
    backend = opened()
    for end in range(63):
        await append(backend, end - 1, end, (f"{end}", end, end))
    files = sorted((tmp_path / "offline" / FACTS).iterdir())
    before = pq.read_table(tmp_path / "offline" / FACTS)
    assert len(files) == 63
    await append(backend, 62, 63, ("63", 63, 63))
    await backend._merging[FACTS]
    assert len(list((tmp_path / "offline" / FACTS).iterdir())) == 1
    after = pq.read_table(tmp_path / "offline" / FACTS)
    assert after.column("event_us").to_pylist() == list(range(64)) and after.schema == before.schema
    assert answers(backend, 100, 30, 63) == ["30", "63"]
    assert answers(opened(), 100, 30, 63) == ["30", "63"]


async def test_a_file_half_written_is_not_read_and_goes(opened, tmp_path):
    opened()
    half = tmp_path / "offline" / FACTS / ".half.tmp"
    half.write_bytes(b"PAR1")
    assert answers(opened(), 0, 0) == [None]
    assert not half.exists()


def test_two_collections_never_share_a_file():
    homes = [("a", "b"), ("b", "a"), ("ab", "c"), ("a", "bc")]
    assert len({stretch_name(Stretch(*home, 0, 1), "0") for home in homes}) == 4


def test_watermarks_survive(tmp_path):
    marks = Watermarks(tmp_path / "w.json")
    marks.advance(FACTS, "t", "c", 5)
    marks.advance(DOCUMENTS, "t", "ç\n", -7)
    again = Watermarks(tmp_path / "w.json")
    assert (again.get(FACTS, "t", "c"), again.get(DOCUMENTS, "t", "ç\n"), again.get(FACTS, "t", "x")) == (
        5,
        -7,
        OPEN_START,
    )


def test_the_exact_microsecond_is_kept_over_all_years():
    table = to_table(VIEWS[FACTS], rows(("a", OPEN_START + 1, 3)))
    assert table.column("event_us").to_numpy().dtype == np.int64
    assert table.column("event_us").to_pylist() == [OPEN_START + 1]


def test_an_unknown_backend_is_named_in_the_error(tmp_path):
    with pytest.raises(InvalidRequest, match="oracle"):
        open_backend(FeaturesSettings(home=tmp_path, features_backend="oracle"))
