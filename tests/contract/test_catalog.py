"""The catalog on both databases: record times, extents, passages that keep their points, changes, moments and jobs."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
from sqlalchemy import select

from services.catalog import jobs
from services.catalog.changes import feature_changes, index_changes
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.reading import (
    Phrasing,
    document_versions,
    fact_at,
    list_collections,
    list_documents,
    passages_at,
    phrasings,
    question_named,
)
from services.catalog.records import DocumentIn, FactIn, Generation, PassageIn
from services.catalog.state import VIEWS, ensure_generation, index_reader, resolve_moment, set_watermark, view_reader
from services.catalog.tables import events
from services.catalog.vectors import VectorFiles
from services.common.errors import CollectionNotFound, Conflict, InvalidDocument, InvalidRequest
from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span, now, parse_instant
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
        for reader in map(view_reader, VIEWS):
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


def ended(database, doc_id="d", **span):
    with database.write() as tx:
        recorder = Recorder(tx, "t", "c")
        return recorder.end(doc_id, **span), recorder.close()


def test_an_ended_document_is_not_valid_any_more_but_was_and_was_known_to_be(database):
    row = document(parts=("one",), valid_from=Y2000)
    ids = [passage(row, 0)]
    before, _ = record(database, row)
    new, after = ended(database, valid_from=Y2010)
    assert new and after > before
    assert list(visible(database, ids, Y2010 - 1, after)) == ids
    assert visible(database, ids, Y2010, after) == {}
    assert list(visible(database, ids, Y2010, before)) == ids


def test_an_end_without_a_date_is_the_record_time(database):
    row = document(parts=("one",), valid_from=Y2000)
    record(database, row)
    _, after = ended(database)
    assert list(visible(database, [passage(row, 0)], after - 1, after)) == [passage(row, 0)]
    assert visible(database, [passage(row, 0)], after, after) == {}


def test_a_withdrawn_span_leaves_nothing_and_the_rest_as_it_was(database):
    row = document(parts=("one",), valid_from=Y2000)
    record(database, row)
    _, after = ended(database, valid_from=Y2010, valid_to=Y2010 + 5)
    shown = [bool(visible(database, [passage(row, 0)], Y2010 + step, after)) for step in (-1, 0, 4, 5)]
    assert shown == [True, False, False, True]


def test_an_end_is_told_to_the_index_as_closes_and_to_the_features_as_nothing(database, tmp_path):
    row = document(parts=("one", "two"), valid_from=Y2000)
    before = with_vectors(database, tmp_path, row)
    _, after = ended(database, valid_from=OPEN_START)
    changed = points(database, tmp_path, before, after)
    assert sum(len(batch.closes) for batch in changed) == 2 and not any(batch.upserts for batch in changed)
    with database.read() as tx:
        rows = [row for batch in feature_changes(tx, DOCUMENTS, Stretch("t", "c", before, after)) for row in batch]
    assert [(row.event, row.found) for row in rows] == [(Y2000, False)]


def test_ending_what_is_not_there_records_nothing(database):
    record(database, document(parts=("one",), valid_from=Y2000))
    _, after = ended(database, valid_from=Y2010)
    assert ended(database, valid_from=Y2010) == (False, after)
    assert ended(database, "another", valid_from=OPEN_START) == (False, after)
    with pytest.raises(InvalidDocument, match="does not follow"):
        ended(database, valid_from=Y2010, valid_to=Y2000)


def test_an_ended_document_can_be_said_again(database):
    row = document(parts=("one",))
    record(database, row)
    ended(database)
    again, new = record(database, row)
    assert new == [True] and list(visible(database, [passage(row, 0)], again, again)) == [passage(row, 0)]


def test_the_end_of_a_fact_is_a_gap(database):
    row = FactIn("Q?", "a", valid_from=Y2000)
    question = row.question_key("t", "c")
    before, _ = record(database, row)
    with database.write() as tx:
        recorder = Recorder(tx, "t", "c")
        assert recorder.end_fact(question, Y2010) and not recorder.end_fact(question, Y2010)
        after = recorder.close()
    with database.read() as tx:
        rows = [row for batch in feature_changes(tx, FACTS, Stretch("t", "c", before, after)) for row in batch]
        assert fact_at(tx, question, row.fact_id("t", "c"), Moment(Y2010, after)) is None
        assert fact_at(tx, question, row.fact_id("t", "c"), Moment(Y2010 - 1, after)).answer == "a"
    assert (Y2010, False) in [(row.event, row.found) for row in rows]


def test_what_not_every_database_can_hold_is_refused_and_harms_nothing_else(database):
    with database.write() as tx:
        recorder = Recorder(tx, "t", "c")
        for row in (document(parts=("a\x00b",)), FactIn("Q?", "a\x00b"), document(metadata={"k": "\x00"})):
            with pytest.raises(InvalidDocument, match="NUL"):
                recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row)
        assert recorder.document(document())
        recorder.close()


def test_names_are_ordered_by_their_bytes(database):
    names = ["b", "B", "a", "ä", "a-b", "ab", "_"]
    record(database, *(document(name) for name in names))
    with database.read() as tx:
        found = [row.doc_id for row in list_documents(tx, "t", "c", "", 100)]
        assert found == sorted(names)
        assert [row.doc_id for row in list_documents(tx, "t", "c", "a", 2)] == ["a-b", "ab"]


def test_a_question_of_any_length_is_found_by_its_text(database):
    text = "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(4_000))
    known, _ = record(database, FactIn(text, "a"), FactIn("Q?", "b"))
    with database.read() as tx:
        assert question_named(tx, "t", "c", text, known) == FactIn(text, "").question_key("t", "c")
        assert question_named(tx, "t", "c", text[:-1], known) is None


def test_every_phrasing_leads_to_the_question_from_its_own_record_on(database):
    fact = FactIn("Who led Acme?", "Ada", phrasings=("Who was Acme's boss?",))
    question = fact.question_key("t", "c")
    first, _ = record(database, fact)
    assert record(database, fact)[0] == first, "nothing new"
    later, _ = record(database, replace(fact, phrasings=("Who was Acme's boss?", "Who ran Acme?")))
    assert later > first
    keys = replace(fact, phrasings=("Who was Acme's boss?", "Who ran Acme?")).phrased("t", "c")
    with database.read() as tx:
        assert question_named(tx, "t", "c", "Who was Acme's boss?", first) == question
        assert question_named(tx, "t", "c", "Who ran Acme?", first) is None
        assert question_named(tx, "t", "c", "Who ran Acme?", later) == question
        assert phrasings(tx, [question, *keys], first) == {
            question: Phrasing(question, "Who led Acme?"),
            next(iter(keys)): Phrasing(question, "Who was Acme's boss?"),
        }
        assert set(phrasings(tx, [question, *keys], later)) == {question, *keys}
        [info] = list_collections(tx, "t")
    assert info.facts == 1


def test_a_snapshot_does_not_see_what_is_committed_beside_it(database):
    record(database, document("d1"))
    with database.read() as tx:
        before = list_documents(tx, "t", "c", "", 10)
        record(database, document("d2"))
        assert list_documents(tx, "t", "c", "", 10) == before


@pytest.mark.parametrize("collections", [1, 8])
def test_commits_side_by_side_get_record_times_of_their_own(database, collections):
    """Eight threads, each a few transactions, into one collection that none has made yet, or each into its own."""
    barrier = Barrier(8)

    def commit(thread):
        barrier.wait(10)
        name = f"c{thread % collections}"
        for number in range(5):
            rows = [document(f"d{thread}", (str(number), str(part)), valid_from=Y2000 + part) for part in range(3)]
            record(database, *rows, FactIn(f"Q{thread}?", str(number)), collection=name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(8)))
    with database.read() as tx:
        query = select(events.c.collection, events.c.recorded_at).order_by(events.c.recorded_at)
        given = tx.execute(query).all()
        newest = {info.name: info.recorded_at for info in list_collections(tx, "t")}
    assert len(given) == len(set(given)) == 8 * 5 * 4
    assert newest == dict(given) and len(newest) == collections


def test_threads_that_write_the_same_document_leave_one_version_visible(database):
    def commit(thread):
        for number in range(5):
            record(database, document("d", (f"{thread}-{number}",), valid_from=Y2000 + thread % 2))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(8)))
    with database.read() as tx:
        rows = document_versions(tx, "t", "c", "d")
    for moment in {Moment(as_of, row.recorded_from) for row in rows for as_of in (Y2000, Y2000 + 1)}:
        here = [row for row in rows if moment in Extent(Span(row[-4], row[-3]), Span(row[-2], row[-1]))]
        assert len(here) <= 1 and (here or moment.as_of == Y2000)


def test_watermarks_and_the_first_generation_may_be_written_side_by_side(catalog_url):
    opened = Database(catalog_url)

    def write(number):
        with opened.write() as tx:
            ensure_generation(tx, GENERATION)
            set_watermark(tx, "reader", "t", "c", number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(16)))
    opened.close()
