"""When a collection changed, on both databases: against the extents themselves, and bounded."""

from itertools import pairwise

import pytest

from services.catalog import history
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.history import Tick
from services.catalog.records import DocumentIn, FactIn, PassageIn
from services.common.errors import CollectionNotFound

DAY = 86_400_000_000


@pytest.fixture
def database(catalog_url):
    opened = Database(catalog_url)
    yield opened
    opened.close()


def document(doc_id, text, **fields):
    return DocumentIn(doc_id, "T", text, passages=(PassageIn(0, (), 0, len(text), text),), **fields)


def record(database, *rows, collection="c"):
    """Record the rows as the history of a new collection."""
    with database.write() as tx:
        recorder = Recorder(tx, "t", collection, "import")
        for row in rows:
            put = recorder.document if isinstance(row, DocumentIn) else recorder.fact
            put(row)
        recorder.close()


def changes(database, known_at=None, collection="c", most=history.MOST):
    with database.read() as tx:
        return history.changes(tx, "t", collection, known_at, most)


def instants(ticks):
    return [tick.at for tick in ticks]


def test_valid_time_ticks_where_documents_and_facts_begin_or_end(database):
    record(
        database,
        document("a", "one", valid_from=10 * DAY, recorded_at=1 * DAY),
        document("a", "two", valid_from=20 * DAY, recorded_at=2 * DAY),
        FactIn("q", "Who?", "Me.", valid_from=15 * DAY, valid_to=30 * DAY, recorded_at=3 * DAY),
    )
    found = changes(database)
    assert found.valid == [
        Tick(10 * DAY, 10 * DAY, 1),
        Tick(15 * DAY, 15 * DAY, 1),
        Tick(20 * DAY, 20 * DAY, 2),
        Tick(30 * DAY, 30 * DAY, 1),
    ]
    assert instants(found.recorded) == [1 * DAY, 2 * DAY, 3 * DAY]


def test_valid_time_is_shown_as_it_was_on_record_then(database):
    record(
        database,
        document("a", "one", valid_from=10 * DAY, recorded_at=1 * DAY),
        document("a", "two", valid_from=20 * DAY, recorded_at=2 * DAY),
    )
    assert instants(changes(database, known_at=1 * DAY).valid) == [10 * DAY]
    assert instants(changes(database, known_at=2 * DAY).valid) == [10 * DAY, 20 * DAY]
    assert changes(database, known_at=DAY - 1).valid == []


def test_open_ends_are_no_changes_and_other_collections_do_not_show(database):
    record(database, document("a", "one", recorded_at=1 * DAY))
    record(database, document("b", "two", valid_from=5 * DAY, recorded_at=7 * DAY), collection="other")
    found = changes(database)
    assert found.valid == []
    assert instants(found.recorded) == [1 * DAY]


def test_many_instants_share_ticks_that_leave_none_out(database):
    rows = [document(f"d{n}", "x", valid_from=(n * n + 1) * DAY, recorded_at=(n + 1) * DAY) for n in range(23)]
    record(database, *rows)
    found = changes(database, most=5).valid
    assert len(found) <= 5 and sum(tick.changes for tick in found) == 23
    assert (found[0].first, found[-1].at) == (DAY, (22 * 22 + 1) * DAY)
    assert all(before.at < after.first for before, after in pairwise(found))


def test_an_unknown_collection_is_an_error(database):
    with pytest.raises(CollectionNotFound):
        changes(database, collection="none")
