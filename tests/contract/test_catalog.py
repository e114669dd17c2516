"""The catalog on both databases: record times, extents, passages that keep their points, changes, moments and jobs."""

from dataclasses import replace

import numpy as np
import pytest

from services.catalog import jobs
from services.catalog.changes import feature_changes, index_changes
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.reading import document_versions, fact_at, list_collections, passages_at
from services.catalog.records import DocumentIn, FactIn, Generation, PassageIn
from services.catalog.state import ensure_generation, index_reader, resolve_moment, set_watermark, view_reader
from services.catalog.vectors import VectorFiles
from services.common.errors import CollectionNotFound, Conflict, InvalidDocument, InvalidRequest
from services.common.moment import OPEN_END, OPEN_START, Moment, now, parse_instant
from services.common.nodes.features import DOCUMENTS, FACTS
from services.common.nodes.scope import Stretch

GENERATION = Generation("g1", "test", 2)
Y2000, Y2010 = parse_instant("2000-01-01"), parse_instant("2010-01-01")


@pytest.fixture
def database(catalog_url):
    opened = Database(catalog_url)
    with opened.write() as tx:
        ensure_generation(tx, GENERATION)
    yield opened
    opened.close()


def document(doc_id="d", parts=("one", "two"), **fields):
    """A document whose passages are its words."""
    text = " ".join(parts)
    passages, start = [], 0
    for ordinal, part in enumerate(parts):
        passages.append(PassageIn(ordinal, (), start, start + len(part), f"T {part}"))
        start += len(part) + 1
    return DocumentIn(doc_id, "T", text, passages=tuple(passages), **fields)


def record(database, *rows, history_job="", collection="c"):
    with database.write() as tx:
        recorder = Recorder(tx, "t", collection, history_job)
        new = [recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row) for row in rows]
        return recorder.close(), new


def passage(row, ordinal):
    return row.passage_id("t", "c", row.passages[ordinal])


def visible(database, ids, as_of, known_at):
    with database.read() as tx:
        return passages_at(tx, "t", "c", ids, Moment(as_of, known_at))


def points(database, tmp_path, start, end):
    files = VectorFiles(tmp_path / "vectors")
    with database.read() as tx:
        return list(index_changes(tx, files, GENERATION, Stretch("t", "c", start, end)))


def with_vectors(database, tmp_path, *rows):
    items = {row.passage_id("t", "c", one) for row in rows for one in row.passages}
    VectorFiles(tmp_path / "vectors").write("f", sorted(items), np.ones((len(items), 2), np.float32))
    with database.write() as tx:
        recorder = Recorder(tx, "t", "c")
        for row in rows:
            recorder.document(row)
        return recorder.close(VectorFile("f", "test", sorted(items)))


def test_record_times_are_strictly_increasing_and_never_before_the_clock(database):
    before = now()
    times = [record(database, document(parts=(str(n),), valid_from=Y2000 + n))[0] for n in range(3)]
    assert before < times[0] < times[1] < times[2]


def test_saying_the_same_again_records_nothing(database):
    first, _ = record(database, document(valid_from=Y2000), FactIn("Q?", "a"))
    again, new = record(database, document(valid_from=Y2000), FactIn("Q?", "a"))
    assert new == [False, False] and again == first


def test_a_newer_version_ends_the_older_one_and_a_late_one_does_not_overwrite_it(database):
    old, new = document(parts=("old",), valid_from=Y2000), document(parts=("new",), valid_from=Y2010)
    known, _ = record(database, new, old)
    ids = [passage(old, 0), passage(new, 0)]
    assert list(visible(database, ids, Y2010 - 1, known)) == [ids[0]]
    assert list(visible(database, ids, Y2010, known)) == [ids[1]]
    assert visible(database, ids, Y2000 - 1, known) == {}


def test_a_correction_is_seen_only_from_its_record_time_on(database):
    wrong = document(parts=("wrong",), valid_from=Y2000)
    right = document(parts=("right",), valid_from=Y2000, valid_to=Y2010)
    before, _ = record(database, wrong)
    after, _ = record(database, right)
    ids = [passage(wrong, 0), passage(right, 0)]
    assert list(visible(database, ids, Y2000, before)) == [ids[0]]
    assert list(visible(database, ids, Y2000, after - 1)) == [ids[0]]
    assert list(visible(database, ids, Y2000, after)) == [ids[1]]
    assert list(visible(database, ids, Y2010, after)) == [ids[0]]


def test_an_unchanged_passage_keeps_its_point_across_versions(database, tmp_path):
    old, new = document(parts=("same", "old"), valid_from=Y2000), document(parts=("same", "new"), valid_from=Y2010)
    first = with_vectors(database, tmp_path, old, document("other", ("x",)))
    with database.write() as tx:
        VectorFiles(tmp_path / "vectors").write("n", [passage(new, 1)], np.ones((1, 2), np.float32))
        recorder = Recorder(tx, "t", "c")
        recorder.document(new)
        second = recorder.close(VectorFile("n", "test", [passage(new, 1)]))
    changed = points(database, tmp_path, first, second)
    items = [point.item_id for batch in changed for point in batch.upserts]
    assert passage(old, 0) not in items
    assert sorted(items) == sorted([passage(old, 1), passage(new, 1)])
    assert sum(len(batch.closes) for batch in changed) == 1


def test_an_undated_first_version_is_valid_from_the_open_start_and_later_ones_from_their_record(database):
    first, second = document(parts=("first",)), document(parts=("second",))
    early, _ = record(database, first)
    late, _ = record(database, second)
    ids = [passage(first, 0), passage(second, 0)]
    found = visible(database, ids, OPEN_START, late)
    assert list(found) == [ids[0]] and not found[ids[0]].dated
    assert list(visible(database, ids, late, late)) == [ids[1]]
    assert list(visible(database, ids, late, early)) == [ids[0]]


def test_a_located_passage_is_an_exact_slice_of_its_version(database):
    row = document(parts=("alpha", "beta"), valid_from=Y2000)
    known, _ = record(database, row)
    found = visible(database, [passage(row, 1)], Y2000, known)[passage(row, 1)]
    assert found.text == "beta" == row.text[found.start : found.end]


def test_passages_of_another_tenant_or_collection_are_not_there(database):
    row = document(valid_from=Y2000)
    known, _ = record(database, row)
    with database.read() as tx:
        for tenant, collection in (("other", "c"), ("t", "other")):
            assert passages_at(tx, tenant, collection, [passage(row, 0)], Moment(Y2000, known)) == {}


def test_facts_are_stated_anew_at_every_boundary_a_correction_touches(database):
    known, _ = record(database, FactIn("Q?", "a", valid_from=Y2000), FactIn("Q?", "b", valid_from=Y2010))
    fixed, _ = record(database, FactIn("Q?", "c", valid_from=Y2000, valid_to=Y2010 + 5))
    with database.read() as tx:
        rows = [row for batch in feature_changes(tx, FACTS, Stretch("t", "c", known, fixed)) for row in batch]
        key, fact = rows[0].entity, str(rows[0].values["fact_id"])
        assert fact_at(tx, key, fact, Moment(Y2010, fixed)).answer == "c"
        assert fact_at(tx, key, fact, Moment(Y2010, known)) is None
    assert {(row.event, row.values["answer"]) for row in rows} >= {(Y2000, "c"), (Y2010, "c"), (Y2010 + 5, "b")}


def test_a_gap_is_stated_as_an_explicit_none(database):
    known, _ = record(database, FactIn("Q?", "a", valid_from=Y2000, valid_to=Y2010))
    with database.read() as tx:
        rows = [row for batch in feature_changes(tx, FACTS, Stretch("t", "c", OPEN_START, known)) for row in batch]
    assert [(row.event, row.found) for row in rows] == [(Y2000, True), (Y2010, False)]


def test_documents_are_features_too(database):
    known, _ = record(database, document(valid_from=Y2000))
    with database.read() as tx:
        [rows] = feature_changes(tx, DOCUMENTS, Stretch("t", "c", OPEN_START, known))
    assert [(row.entity, row.values["length_chars"], row.values["versions"]) for row in rows] == [("d", 7, 1)]


def test_record_times_may_be_brought_only_into_a_new_collection_and_sorted(database):
    rows = [document(parts=(str(n),), valid_from=Y2000 + n, recorded_at=Y2010 + n) for n in range(2)]
    known, _ = record(database, *rows, history_job="j")
    assert known == Y2010 + 1
    with pytest.raises(Conflict, match="new collection"):
        record(database, *rows, history_job="another")
    with pytest.raises(InvalidDocument, match="sort"):
        record(database, document("e", recorded_at=Y2000), history_job="j")
    with pytest.raises(InvalidDocument, match="future"):
        record(database, document("e", recorded_at=now() + 10**12), history_job="j")
    with pytest.raises(InvalidDocument, match="--history"):
        record(database, replace(rows[0], recorded_at=Y2000), collection="plain")


def test_a_failed_commit_leaves_nothing(database):
    with pytest.raises(InvalidDocument):
        record(database, document(), document("e", recorded_at=Y2000))
    with database.read() as tx:
        assert list_collections(tx, "t") == []


@pytest.mark.parametrize("name", ["", "../etc", "a b", "x" * 129, "-x"])
def test_a_collection_needs_a_plain_name(database, name):
    with pytest.raises(InvalidRequest):
        record(database, document(), collection=name)


def test_known_at_defaults_to_the_lowest_watermark_and_is_pinned_to_the_record(database):
    first, _ = record(database, document(valid_from=Y2000))
    last, _ = record(database, document(parts=("new",), valid_from=Y2010))
    with database.write() as tx:
        for reader in (view_reader(FACTS), view_reader(DOCUMENTS)):
            set_watermark(tx, reader, "t", "c", last)
        assert resolve_moment(tx, "t", "c", GENERATION, 5, None).known_at < first
        set_watermark(tx, index_reader("g1"), "t", "c", first)
        assert resolve_moment(tx, "t", "c", GENERATION, 5, None) == Moment(5, first)
        assert resolve_moment(tx, "t", "c", GENERATION, 5, now()) == Moment(5, last)
        assert resolve_moment(tx, "t", "c", GENERATION, 5, first + 1) == Moment(5, first + 1)
        with pytest.raises(CollectionNotFound):
            resolve_moment(tx, "t", "nowhere", GENERATION, 5, None)


def test_versions_are_listed_with_their_extents(database):
    record(database, document(parts=("old",), valid_from=Y2000), document(parts=("new",), valid_from=Y2010))
    with database.read() as tx:
        rows = document_versions(tx, "t", "c", "d")
    live = [(row.text, row.valid_from, row.valid_to) for row in rows if row.recorded_to == OPEN_END]
    assert sorted(live) == [("new", Y2010, OPEN_END), ("old", Y2000, Y2010)]


def test_a_job_is_held_by_one_worker_at_a_time_and_a_cancelled_one_stops(database):
    with database.write() as tx:
        job = jobs.create(tx, "t", "c", "documents", {})
        assert jobs.acquire(tx, job.job_id) and jobs.acquire(tx, job.job_id) is None
        jobs.progress(tx, job.job_id, 3, {"documents": 3}, [])
        jobs.finish(tx, job.job_id, jobs.CANCELLED)
        with pytest.raises(Conflict):
            jobs.renew(tx, job.job_id)
        jobs.finish(tx, job.job_id, jobs.DONE)
        assert jobs.get(tx, "t", job.job_id).state == jobs.CANCELLED
