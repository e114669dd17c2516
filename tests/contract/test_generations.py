"""Generations in the catalog, on both databases: every transition, and what each may not do."""

import numpy as np
import pytest

from services.catalog import generations, jobs
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.following import add_vectors, count_unencoded, points_within, stretch_end, unencoded
from services.catalog.records import DocumentIn, FactIn, Generation, PassageIn
from services.catalog.state import (
    all_generations,
    basis,
    ensure_generation,
    index_reader,
    live_generation,
    set_watermark,
)
from services.common.errors import Conflict, NotFound, Unavailable
from services.common.moment import OPEN_START, now
from services.common.nodes.funnel import PLAIN, Funnel, Rotation
from services.common.nodes.scope import Stretch

ROTATED = Funnel(dimensions=2, rotation=Rotation.PCA)
PASSED = {"passed": True, "reasons": [], "against": "g1"}


@pytest.fixture
def tx(catalog_url):
    opened = Database(catalog_url)
    with opened.write() as transaction:
        ensure_generation(transaction, Generation("g1", "first", 3))
        yield transaction
    opened.close()


def ready(tx, funnel=PLAIN):
    name = generations.start(tx, "second", 4, funnel).name
    generations.mark_ready(tx, name)
    return name


def verified(tx, **changed):
    name = ready(tx)
    generations.record_verdict(tx, name, {**PASSED, "checked_us": now(), **changed})
    return name


def states(tx):
    return {one.generation.name: one.state for one in generations.standings(tx)}


def test_a_generation_is_built_goes_live_and_is_rolled_back_and_forth(tx):
    name = verified(tx)
    assert states(tx) == {"g1": "live", "g2": "ready"} and generations.followed(tx)[0].encoder == "second"
    assert generations.switch(tx, name) == ("g2", "g1")
    assert states(tx) == {"g1": "kept", "g2": "live"} and live_generation(tx) == Generation("g2", "second", 4)
    assert [one.name for one in generations.followed(tx)] == ["g1"]
    assert generations.rollback(tx) == ("g1", "g2") and generations.rollback(tx) == ("g2", "g1")


def test_a_rollback_goes_to_the_one_that_was_live_last(tx):
    with pytest.raises(Conflict, match="kept"):
        generations.rollback(tx)
    for name in (verified(tx), verified(tx)):
        generations.switch(tx, name, forced=True)
    assert states(tx) == {"g1": "kept", "g2": "kept", "g3": "live"}
    assert generations.rollback(tx) == ("g2", "g3")


def test_a_name_is_never_given_twice(tx):
    name = ready(tx)
    generations.drop(tx, name)
    assert generations.dropping(tx) == [name] and "g2" in {one.name for one in all_generations(tx)}
    generations.dropped(tx, name)
    assert states(tx) == {"g1": "live"} and [one.name for one in all_generations(tx)] == ["g1"]
    assert generations.start(tx, "second", 4, PLAIN).name == "g3"
    with pytest.raises(NotFound):
        generations.standing(tx, name)


def test_only_one_is_built_at_a_time_and_few_are_kept(tx):
    generations.start(tx, "second", 4, PLAIN)
    with pytest.raises(Conflict, match="being built"):
        generations.start(tx, "second", 4, PLAIN)
    generations.mark_ready(tx, "g2")
    for _ in range(generations.MOST_BESIDE - 1):
        ready(tx)
    with pytest.raises(Conflict, match="drop one"):
        generations.start(tx, "second", 4, PLAIN)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"passed": False, "reasons": ["too few points"]}, "too few points"),
        ({"against": "g0"}, "another one"),
        ({"checked_us": 0}, "a while ago"),
    ],
)
def test_a_switch_needs_a_recent_verdict_that_it_passed(tx, changed, reason):
    name = verified(tx, **changed)
    with pytest.raises(Conflict, match=reason):
        generations.switch(tx, name)
    assert generations.switch(tx, name, forced=True) == (name, "g1")


def test_a_switch_is_refused_before_it_is_verified_or_ready_and_for_the_live_one(tx):
    building = generations.start(tx, "second", 4, PLAIN).name
    for forced in (False, True):
        with pytest.raises(Conflict, match="building"):
            generations.switch(tx, building, forced)
    generations.mark_ready(tx, building)
    with pytest.raises(Conflict, match="not been verified"):
        generations.switch(tx, building)
    with pytest.raises(Conflict, match="live"):
        generations.switch(tx, "g1")
    with pytest.raises(NotFound):
        generations.switch(tx, "g9")


def test_a_switch_is_refused_far_behind_the_record(tx, monkeypatch):
    monkeypatch.setattr(generations, "MOST_BEHIND", 1)
    name = verified(tx)
    newest = recorded(tx)
    assert generations.standing(tx, name).behind == 4
    with pytest.raises(Conflict, match="4 points behind"):
        generations.switch(tx, name)
    set_watermark(tx, index_reader(name), "t", "c", newest)
    assert generations.standing(tx, name).behind == 0
    assert generations.switch(tx, name) == (name, "g1")


def test_dropping_ends_the_jobs_at_work_and_spares_the_live_one(tx):
    made = generations.start(tx, "second", 4, PLAIN)
    job = generations.ask_reindex(tx, "t", made)
    assert generations.latest_job(tx, made.name) == job
    generations.drop(tx, made.name)
    assert jobs.by_id(tx, job.job_id).state == jobs.CANCELLED
    with pytest.raises(Conflict, match="not being built"):
        generations.mark_ready(tx, made.name)
    with pytest.raises(Conflict, match="live"):
        generations.drop(tx, "g1")


def test_one_verification_of_a_generation_at_a_time(tx):
    name = ready(tx)
    job = generations.ask_verify(tx, "t", name)
    assert generations.ask_verify(tx, "t", name) == job
    for other, error in (("g1", Conflict), ("g9", NotFound)):
        with pytest.raises(error):
            generations.ask_verify(tx, "t", other)


def test_a_basis_is_set_once(tx):
    made = generations.start(tx, "second", 4, ROTATED)
    first = np.arange(8, dtype=np.float32).reshape(2, 4)
    generations.set_basis(tx, made.name, first)
    generations.set_basis(tx, made.name, first + 1)
    assert np.array_equal(basis(tx, made), first)


def recorded(tx):
    """Two documents of three points and a fact's question; the newest record time."""
    recorder = Recorder(tx, "t", "c")
    for doc_id, words in (("a", ("one", "two")), ("b", ("three",))):
        parts = tuple(PassageIn(number, (), 0, 1, f"{doc_id} {word}") for number, word in enumerate(words))
        recorder.document(DocumentIn(doc_id, "T", " ".join(words), passages=parts))
    recorder.fact(FactIn("Which?", "This."))
    return recorder.close()


def test_stretches_keep_what_has_one_record_time_together(tx):
    newest = recorded(tx)
    whole = Stretch("t", "c", OPEN_START, newest)
    assert points_within(tx, whole) == 4 and stretch_end(tx, whole, 10) == newest
    first = stretch_end(tx, whole, 1)
    assert points_within(tx, Stretch("t", "c", OPEN_START, first)) == 2


def test_vectors_are_added_once_for_what_is_on_record(tx):
    whole = Stretch("t", "c", OPEN_START, recorded(tx))
    items = unencoded(tx, "second", whole)
    assert len(items) == count_unencoded(tx, "second", whole) == 4 and "Which?" in items.values()
    add_vectors(tx, whole, VectorFile("file", "second", list(items)[:3]))
    assert list(unencoded(tx, "second", whole)) == list(items)[3:] and count_unencoded(tx, "other", whole) == 4
    for wanted in (list(items), ["unknown"]):
        with pytest.raises(Unavailable):
            add_vectors(tx, whole, VectorFile("again", "second", wanted))
