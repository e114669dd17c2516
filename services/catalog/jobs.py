"""Jobs: the catalog row is the truth, the queue only a hint.

A job is held by a lease; a worker that stops renewing it loses the job to the next, and the number of the attempt keeps
it out from then on.

    queued ──acquire──▶ running ──finish──▶ done or failed
    queued, running ──cancel──▶ cancelled
    failed, cancelled ──retry──▶ queued, from where it stood
    running, its lease expired ──acquire──▶ running, or failed where that has led nowhere several times
    running ──release──▶ queued, from where it stood
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, or_, select, update

from services.catalog.pace import Mark, marked
from services.catalog.tables import jobs
from services.common.errors import Conflict, JobNotFound
from services.common.moment import now

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
FINISHED = (DONE, FAILED, CANCELLED)
SMALL, BULK, LONG = 0, 1, 2
"""Priorities: what is small does not wait for what is not, and neither waits for what may take days."""

LEASE_US = 15_000_000
MOST_ATTEMPTS = 5
MAX_FAILURES = 1_000
"""How many failures a job lists; the counts are of all of them."""


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of long work and how far it is. `request` is what was asked; times are instants.

    `attempts` counts how often it was taken up, `pace` says how it stood lately, `note` what it waits for.
    """

    job_id: str
    tenant: str
    collection: str
    kind: str
    state: str
    cursor: int
    total: int | None
    created_at: int
    updated_at: int
    request: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[Mapping[str, Any]] = ()
    error: str = ""
    priority: int = SMALL
    attempts: int = 0
    lease_until: int = 0
    pace: Sequence[Mark] = ()
    note: str = ""
    started_at: int | None = None


def create(
    tx: Connection,
    tenant: str,
    collection: str,
    kind: str,
    request: Mapping[str, Any],
    *,
    job_id: str = "",
    priority: int = SMALL,
) -> Job:
    """A queued job, to be committed before it is enqueued."""
    clock = now()
    job_id = job_id or str(uuid.uuid4())
    row = {
        "job_id": job_id,
        "tenant": tenant,
        "collection": collection,
        "kind": kind,
        "request": dict(request),
        "state": QUEUED,
        "cursor": 0,
        "total": None,
        "counts": {},
        "failures": [],
        "error": "",
        "lease_until": 0,
        "priority": priority,
        "attempts": 0,
        "moved_in": 0,
        "pace": [],
        "note": "",
        "created_at": clock,
        "started_at": None,
        "updated_at": clock,
    }
    tx.execute(insert(jobs).values(row))
    return get(tx, tenant, job_id)


def get(tx: Connection, tenant: str, job_id: str) -> Job:
    """Raises JobNotFound."""
    row = tx.execute(select(jobs).where(jobs.c.tenant == tenant, jobs.c.job_id == job_id)).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id[:64]!r}")
    return _job(row)


def by_id(tx: Connection, job_id: str) -> Job:
    """A job whoever's it is; for workers only. Raises JobNotFound."""
    row = tx.execute(select(jobs).where(jobs.c.job_id == job_id)).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id[:64]!r}")
    return _job(row)


def newest(tx: Connection, tenant: str, limit: int, state: str | None = None) -> list[Job]:
    """The newest jobs, or the newest of a state: the failed ones are the dead letters."""
    query = select(jobs).where(jobs.c.tenant == tenant).order_by(jobs.c.created_at.desc()).limit(limit)
    return [_job(row) for row in tx.execute(query if state is None else query.where(jobs.c.state == state))]


def acquire(tx: Connection, job_id: str, most_attempts: int = MOST_ATTEMPTS) -> Job | None:
    """Take the lease of a job that nobody holds; None if somebody does, or it is finished.

    A job that was taken up `most_attempts` times in a row without a single row done fails instead: whoever takes it up
    seems to die of it.
    """
    clock = now()
    free = or_(jobs.c.state == QUEUED, (jobs.c.state == RUNNING) & (jobs.c.lease_until < clock))
    row = tx.execute(select(jobs).where(jobs.c.job_id == job_id, free).with_for_update()).one_or_none()
    if row is None:
        return None
    if row.attempts - row.moved_in >= most_attempts:
        _set(tx, _here(job_id), state=FAILED, error=_given_up(row), lease_until=0, note="")
        return None
    taken = {"attempts": row.attempts + 1, "pace": [[clock, row.cursor, row.counts.get("passages", 0)]]}
    started = clock if row.started_at is None else row.started_at
    _set(tx, _here(job_id), state=RUNNING, lease_until=clock + LEASE_US, started_at=started, note="", **taken)
    return by_id(tx, job_id)


def renew(tx: Connection, job_id: str, attempt: int | None = None) -> None:
    """A heartbeat of the work at hand. Raises Conflict if the job was cancelled or taken over meanwhile."""
    _must(_set(tx, _held(job_id, attempt), lease_until=now() + LEASE_US), job_id)


def progress(
    tx: Connection,
    job_id: str,
    cursor: int,
    counts: Mapping[str, int],
    failures: Sequence[Mapping[str, Any]],
    attempt: int | None = None,
) -> None:
    """Note durably handled input, in the very transaction that handled it. Raises Conflict like `renew`."""
    clock = now()
    held = _held(job_id, attempt)
    row = tx.execute(select(jobs.c.pace, jobs.c.cursor, jobs.c.attempts, jobs.c.moved_in).where(held)).one_or_none()
    values = {
        "cursor": cursor,
        "counts": dict(counts),
        "failures": list(failures)[:MAX_FAILURES],
        "lease_until": clock + LEASE_US,
        "note": "",
    }
    if row is not None:
        values["pace"] = marked(row.pace, clock, cursor, counts.get("passages", 0))
        values["moved_in"] = row.attempts if cursor > row.cursor else row.moved_in
    _must(_set(tx, held, **values), job_id)


def remark(tx: Connection, job_id: str, note: str, attempt: int | None = None) -> None:
    """Say what a running job waits for; the next progress takes it back."""
    _set(tx, _held(job_id, attempt), note=note)


def set_total(tx: Connection, job_id: str, total: int) -> None:
    _set(tx, _here(job_id), total=total)


def finish(tx: Connection, job_id: str, state: str, error: str = "", attempt: int | None = None) -> bool:
    """End a running job; False for one that was cancelled or taken over, which stays as it is."""
    unended = and_(_here(job_id), jobs.c.state.in_((QUEUED, RUNNING)))
    mine = unended if attempt is None else _held(job_id, attempt)
    return _set(tx, mine, state=state, error=error, lease_until=0, note="")


def release(tx: Connection, job_id: str, attempt: int) -> bool:
    """Give a running job back, for another worker to go on with; False if it is not this attempt's any more.

    That attempt is none of those that led nowhere.
    """
    again = {"state": QUEUED, "lease_until": 0, "moved_in": jobs.c.moved_in + 1}
    return _set(tx, _held(job_id, attempt), **again)


def cancel(tx: Connection, tenant: str, job_id: str) -> Job:
    """End a job for good: what was committed stays, nothing more is. Raises JobNotFound; Conflict if it has ended."""
    job = get(tx, tenant, job_id)
    if not finish(tx, job_id, CANCELLED) and job.state != CANCELLED:
        raise Conflict(f"job {job_id} is {job.state} already; there is nothing to cancel")
    return get(tx, tenant, job_id)


def retry(tx: Connection, tenant: str, job_id: str) -> Job:
    """Queue a failed or cancelled job again, to go on where it stood. Raises JobNotFound, Conflict."""
    job = get(tx, tenant, job_id)
    ended = and_(_here(job_id), jobs.c.state.in_((FAILED, CANCELLED)))
    if not _set(tx, ended, state=QUEUED, error="", moved_in=jobs.c.attempts, pace=[]):
        more = "; its failed rows alone: retry with failed=true" if job.counts.get("failed") else ""
        raise Conflict(f"job {job_id} is {job.state}; only a failed or cancelled one goes on{more}")
    return get(tx, tenant, job_id)


def amend(tx: Connection, job_id: str, **request: Any) -> None:
    """Add to what was asked."""
    _set(tx, _here(job_id), request={**by_id(tx, job_id).request, **request})


def abandoned(tx: Connection, limit: int = 64) -> list[Job]:
    """Jobs nobody works on: queued a while ago, or with an expired lease. The small ones first, then the oldest."""
    clock = now()
    waiting = (jobs.c.state == QUEUED) & (jobs.c.updated_at < clock - LEASE_US // 3)
    expired = (jobs.c.state == RUNNING) & (jobs.c.lease_until < clock)
    query = select(jobs).where(or_(waiting, expired)).order_by(jobs.c.priority, jobs.c.created_at).limit(limit)
    return [_job(row) for row in tx.execute(query)]


def next_queued(tx: Connection, priority: int) -> str | None:
    """The oldest queued job of a priority."""
    mine = (jobs.c.state == QUEUED) & (jobs.c.priority == priority)
    return tx.execute(select(jobs.c.job_id).where(mine).order_by(jobs.c.created_at).limit(1)).scalar()


def _here(job_id: str) -> ColumnElement[bool]:
    return jobs.c.job_id == job_id


def _held(job_id: str, attempt: int | None) -> ColumnElement[bool]:
    """The job while it runs, and while it is this attempt's."""
    running = and_(_here(job_id), jobs.c.state == RUNNING)
    return running if attempt is None else and_(running, jobs.c.attempts == attempt)


def _set(tx: Connection, where: ColumnElement[bool], **values: Any) -> bool:
    return bool(tx.execute(update(jobs).where(where).values(**values, updated_at=now())).rowcount)


def _must(done: bool, job_id: str) -> None:
    if not done:
        raise Conflict(f"job {job_id} is not running any more, or another worker has it")


def _given_up(row: Row[Any]) -> str:
    return (
        f"given up: taken up {row.attempts - row.moved_in} times without getting past row {row.cursor}; each time the "
        "worker died or fell silent. Its log may say why; a retry goes on from there"
    )


def _job(row: Row[Any]) -> Job:
    names = Job.__dataclass_fields__
    return Job(**{name: getattr(row, name) for name in names})
