"""Whatever workers, users and the clock do to a job, every row is committed once and in order."""

from contextlib import nullcontext

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

from services.catalog import jobs
from services.catalog.tables import metadata
from services.common.errors import Conflict

MOST_ATTEMPTS = 3


class Job(RuleBasedStateMachine):
    """One job, beside what it should be. An attempt believes in the cursor it began with until it is told otherwise."""

    def __init__(self):
        super().__init__()
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
        metadata.create_all(self.engine)
        self.clock = 1
        self.real, jobs.now = jobs.now, lambda: self.clock
        self.job = self.tx(lambda tx: jobs.create(tx, "t", "c", "documents", {})).job_id
        self.state, self.lease, self.attempts, self.idle = jobs.QUEUED, 0, 0, 0
        self.cursors, self.committed = {}, []

    def teardown(self):
        jobs.now = self.real
        self.engine.dispose()

    def tx(self, work):
        with self.engine.begin() as tx:
            return work(tx)

    def holds(self, attempt):
        return self.state == jobs.RUNNING and attempt == self.attempts

    @rule()
    def acquire(self):
        free = self.state == jobs.QUEUED or (self.state == jobs.RUNNING and self.lease < self.clock)
        taken = self.tx(lambda tx: jobs.acquire(tx, self.job, MOST_ATTEMPTS))
        assert (taken is not None) == (free and self.idle < MOST_ATTEMPTS)
        if taken is None:
            self.state = jobs.FAILED if free else self.state
            return
        self.state, self.lease = jobs.RUNNING, self.clock + jobs.LEASE_US
        self.attempts, self.idle = self.attempts + 1, self.idle + 1
        assert taken.attempts == self.attempts
        self.cursors[taken.attempts] = taken.cursor

    @precondition(lambda self: self.cursors)
    @rule(data=st.data(), rows=st.integers(1, 3))
    def commit(self, data, rows):
        attempt = data.draw(st.sampled_from(sorted(self.cursors)))
        start = self.cursors[attempt]
        end = start + rows
        try:
            self.tx(lambda tx: jobs.progress(tx, self.job, end, {"passages": end}, [], attempt))
        except Conflict:
            assert not self.holds(attempt)
            return
        assert self.holds(attempt)
        self.committed += range(start, end)
        self.cursors[attempt], self.idle, self.lease = end, 0, self.clock + jobs.LEASE_US

    @precondition(lambda self: self.cursors)
    @rule(data=st.data())
    def renew(self, data):
        attempt = data.draw(st.sampled_from(sorted(self.cursors)))
        try:
            self.tx(lambda tx: jobs.renew(tx, self.job, attempt))
        except Conflict:
            assert not self.holds(attempt)
        else:
            assert self.holds(attempt)
            self.lease = self.clock + jobs.LEASE_US

    @precondition(lambda self: self.cursors)
    @rule(data=st.data(), state=st.sampled_from([jobs.DONE, jobs.FAILED]))
    def finish(self, data, state):
        attempt = data.draw(st.sampled_from(sorted(self.cursors)))
        held = self.holds(attempt)
        assert self.tx(lambda tx: jobs.finish(tx, self.job, state, "why", attempt)) == held
        self.state = state if held else self.state

    @rule()
    def cancel(self):
        refused = self.state in (jobs.DONE, jobs.FAILED)
        with pytest.raises(Conflict) if refused else nullcontext():
            self.tx(lambda tx: jobs.cancel(tx, "t", self.job))
        self.state = self.state if refused else jobs.CANCELLED

    @rule()
    def retry(self):
        refused = self.state not in (jobs.FAILED, jobs.CANCELLED)
        with pytest.raises(Conflict) if refused else nullcontext():
            self.tx(lambda tx: jobs.retry(tx, "t", self.job))
        self.state, self.idle = (self.state, self.idle) if refused else (jobs.QUEUED, 0)

    @rule(seconds=st.sampled_from([1, 6, 16]))
    def time_passes(self, seconds):
        self.clock += seconds * 1_000_000

    @invariant()
    def every_row_is_committed_once_and_in_order(self):
        job = self.tx(lambda tx: jobs.by_id(tx, self.job))
        assert self.committed == list(range(job.cursor))
        assert (job.state, job.attempts) == (self.state, self.attempts)
        assert bool(job.error) == (job.state == jobs.FAILED or (job.state == jobs.DONE and job.error == "why"))

    @invariant()
    def nothing_is_forgotten(self):
        waits = [job.job_id for job in self.tx(jobs.abandoned)] == [self.job]
        expired = self.state == jobs.RUNNING and self.lease < self.clock
        assert waits >= expired and (not waits or expired or self.state == jobs.QUEUED)


Job.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestJob = Job.TestCase
