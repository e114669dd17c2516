"""Jobs and synced folders in the catalog, on both databases: every transition, and what each may not do."""

import pytest

from services.catalog import jobs, syncing
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.reading import document_versions
from services.catalog.records import DocumentIn
from services.catalog.syncing import GONE, PARTIAL, Folder, SyncedFile
from services.common.errors import Conflict, JobNotFound
from services.common.moment import OPEN_END

SECOND = 1_000_000


class Clock:
    def __init__(self):
        self.now = 1_000 * SECOND

    def __call__(self):
        self.now += 1
        return self.now

    def sleep(self, seconds):
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(jobs, "now", clock)
    return clock


@pytest.fixture
def tx(catalog_url):
    opened = Database(catalog_url)
    with opened.write() as transaction:
        yield transaction
    opened.close()


def create(tx, **given):
    return jobs.create(tx, "t", "c", "documents", {"files": []}, **given).job_id


def test_a_job_goes_from_queued_to_running_to_done(tx, clock):
    job = create(tx, job_id="mine", priority=jobs.BULK)
    assert jobs.get(tx, "t", "mine").state == jobs.QUEUED
    taken = jobs.acquire(tx, job)
    assert (taken.state, taken.attempts, taken.priority) == (jobs.RUNNING, 1, jobs.BULK)
    assert taken.created_at < taken.started_at == taken.pace[0][0]
    jobs.progress(tx, job, 2, {"passages": 5}, [], 1)
    assert jobs.finish(tx, job, jobs.DONE, attempt=1)
    assert jobs.acquire(tx, job) is None and not jobs.finish(tx, job, jobs.FAILED)
    with pytest.raises(JobNotFound):
        jobs.cancel(tx, "another tenant", job)


def test_a_lease_that_expired_goes_to_the_next_and_the_first_has_no_say_any_more(tx, clock):
    job = create(tx)
    jobs.acquire(tx, job)
    clock.sleep(14)
    jobs.renew(tx, job, 1)
    clock.sleep(14)
    assert jobs.acquire(tx, job) is None
    clock.sleep(2)
    assert [one.job_id for one in jobs.abandoned(tx)] == [job]
    assert jobs.acquire(tx, job).attempts == 2
    for stale in (
        lambda: jobs.renew(tx, job, 1),
        lambda: jobs.progress(tx, job, 9, {}, [], 1),
    ):
        with pytest.raises(Conflict, match="another worker"):
            stale()
    assert not jobs.finish(tx, job, jobs.FAILED, "the first worker's opinion", 1)
    jobs.remark(tx, job, "nor may it say a word", 1)
    assert (jobs.get(tx, "t", job).state, jobs.get(tx, "t", job).cursor, jobs.get(tx, "t", job).note) == (
        *(jobs.RUNNING, 0, ""),
    )


def test_a_job_that_costs_worker_after_worker_is_given_up_with_a_reason_and_goes_on_when_told(tx, clock):
    job = create(tx)
    for _ in range(2):
        assert jobs.acquire(tx, job, 3)
        clock.sleep(16)
    jobs.progress(tx, job, 7, {}, [], jobs.acquire(tx, job, 3).attempts)
    for _ in range(3):
        clock.sleep(16)
        assert jobs.acquire(tx, job, 3), "a row done gives it all its attempts back"
    clock.sleep(16)
    assert jobs.acquire(tx, job, 3) is None
    [dead] = jobs.newest(tx, "t", 9, jobs.FAILED)
    assert "3 times" in dead.error and "row 7" in dead.error
    assert jobs.abandoned(tx) == [] and jobs.newest(tx, "t", 9, jobs.DONE) == []
    again = jobs.retry(tx, "t", job)
    assert (again.state, again.cursor, again.error) == (jobs.QUEUED, 7, "")
    assert jobs.acquire(tx, job, 3).cursor == 7


def test_a_cancelled_job_commits_nothing_more_and_may_be_resumed(tx, clock):
    job = create(tx)
    jobs.progress(tx, job, 3, {"versions": 3}, [], jobs.acquire(tx, job).attempts)
    assert jobs.cancel(tx, "t", job).state == jobs.CANCELLED == jobs.cancel(tx, "t", job).state
    with pytest.raises(Conflict):
        jobs.progress(tx, job, 4, {}, [], 1)
    with pytest.raises(Conflict):
        jobs.renew(tx, job, 1)
    assert not jobs.finish(tx, job, jobs.DONE, attempt=1)
    jobs.retry(tx, "t", job)
    taken = jobs.acquire(tx, job)
    assert (taken.cursor, dict(taken.counts), taken.attempts) == (3, {"versions": 3}, 2)
    with pytest.raises(Conflict):
        jobs.progress(tx, job, 4, {}, [], 1)


def test_a_queued_job_is_cancelled_before_anybody_takes_it_up(tx, clock):
    job = create(tx)
    jobs.cancel(tx, "t", job)
    assert jobs.acquire(tx, job) is None


@pytest.mark.parametrize("state", [jobs.DONE, jobs.FAILED])
def test_what_has_ended_cannot_be_cancelled(tx, clock, state):
    job = create(tx)
    jobs.acquire(tx, job)
    jobs.finish(tx, job, state)
    with pytest.raises(Conflict, match=state):
        jobs.cancel(tx, "t", job)


@pytest.mark.parametrize("state", [jobs.QUEUED, jobs.RUNNING, jobs.DONE])
def test_only_what_has_failed_or_was_cancelled_is_resumed(tx, clock, state):
    job = create(tx)
    if state != jobs.QUEUED:
        jobs.acquire(tx, job)
    if state == jobs.DONE:
        jobs.finish(tx, job, state)
    with pytest.raises(Conflict, match=state):
        jobs.retry(tx, "t", job)


def test_what_waits_is_taken_up_small_first_then_by_age(tx, clock):
    bulk = create(tx, priority=jobs.BULK)
    small, later = create(tx), create(tx)
    assert jobs.abandoned(tx) == [], "their hints are on their way"
    clock.sleep(6)
    assert [job.job_id for job in jobs.abandoned(tx)] == [small, later, bulk]
    assert [job.job_id for job in jobs.abandoned(tx, 1)] == [small]
    assert (jobs.next_queued(tx, jobs.SMALL), jobs.next_queued(tx, jobs.BULK)) == (small, bulk)
    jobs.acquire(tx, bulk)
    assert jobs.next_queued(tx, jobs.BULK) is None


def test_a_note_stands_until_the_job_moves(tx, clock):
    job = create(tx)
    jobs.acquire(tx, job)
    jobs.remark(tx, job, "the encoder does not answer", 1)
    jobs.renew(tx, job, 1)
    assert jobs.get(tx, "t", job).note == "the encoder does not answer"
    jobs.progress(tx, job, 1, {}, [], 1)
    assert jobs.get(tx, "t", job).note == ""


FOLDER = Folder("t", "c", "notes")


def say(tx, *doc_ids):
    recorder = Recorder(tx, "t", "c")
    for doc_id in doc_ids:
        recorder.document(DocumentIn(doc_id, "T", f"text of {doc_id}"))
    recorder.close()


def settle(tx, **files):
    """Each file as (digest, documents)."""
    syncing.settle(tx, FOLDER, [SyncedFile(path, digest, frozenset(said)) for path, (digest, said) in files.items()])


def holds(tx, doc_id):
    return any(
        (row.valid_to, row.recorded_to) == (OPEN_END, OPEN_END) for row in document_versions(tx, "t", "c", doc_id)
    )


def test_files_are_known_by_their_digests_once_they_are_in(tx):
    assert syncing.known(tx, FOLDER) == ({}, False)
    settle(tx, a=("1", "x"), empty=("2", ""))
    settle(tx, a=("1", "x"), empty=("2", ""))
    assert syncing.known(tx, FOLDER) == ({"a": "1", "empty": "2"}, False)
    assert syncing.known(tx, Folder("t", "c", "other")) == ({}, False)
    assert syncing.prune(tx, FOLDER, []) == 0


def test_a_removed_file_ends_its_documents_once(tx):
    say(tx, "x", "y", "z")
    settle(tx, a=("1", "xy"), b=("2", "z"))
    assert syncing.prune(tx, FOLDER, ["a", "never there"]) == 2
    assert [holds(tx, doc_id) for doc_id in "xyz"] == [False, False, True]
    assert syncing.known(tx, FOLDER) == ({"b": "2"}, False)
    assert syncing.prune(tx, FOLDER, ["a"]) == 0


def test_a_document_that_a_file_says_no_more_ends_when_the_folder_has_been_gone_through(tx):
    say(tx, "x", "y")
    settle(tx, a=("1", "xy"))
    settle(tx, a=("2", "x"))
    assert syncing.known(tx, FOLDER) == ({"a": "2"}, True) and holds(tx, "y")
    assert syncing.prune(tx, FOLDER, []) == 1
    assert holds(tx, "x") and not holds(tx, "y")
    assert syncing.known(tx, FOLDER) == ({"a": "2"}, False)


def test_a_document_that_moved_to_another_file_never_ends(tx):
    say(tx, "x")
    settle(tx, a=("1", "x"))
    settle(tx, b=("1", "x"))
    assert syncing.prune(tx, FOLDER, ["a"]) == 0
    assert holds(tx, "x") and len(document_versions(tx, "t", "c", "x")) == 1


def test_a_file_with_failed_rows_ends_nothing_and_is_sent_again(tx):
    say(tx, "x", "y", "z")
    settle(tx, a=("1", "xy"))
    settle(tx, a=(PARTIAL, "xz"))
    assert syncing.prune(tx, FOLDER, []) == 0 and holds(tx, "y")
    assert syncing.known(tx, FOLDER)[0] == {"a": PARTIAL}
    assert syncing.prune(tx, FOLDER, ["a"]) == 3, "all it ever said is known"
    assert GONE not in syncing.known(tx, FOLDER)[0].values()
