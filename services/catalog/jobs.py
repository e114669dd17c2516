"""Jobs: the catalog row is the truth, the queue only a hint.

A job is held by a lease; a worker that stops renewing it loses the job to the next.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from services.catalog.tables import jobs
from services.common.errors import Conflict, JobNotFound
from services.common.moment import now

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
FINISHED = (DONE, FAILED, CANCELLED)
LEASE_US = 15_000_000
MAX_FAILURES = 1_000
"""How many failures a job lists; the counts are of all of them."""


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of long work and how far it is. `request` is what was asked; times are instants."""

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


def create(tx: Connection, tenant: str, collection: str, kind: str, request: Mapping[str, Any]) -> Job:
    """A queued job, to be committed before it is enqueued."""
    clock = now()
    job_id = str(uuid.uuid4())
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
        "priority": 0,
        "attempts": 0,
        "created_at": clock,
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


def newest(tx: Connection, tenant: str, limit: int) -> list[Job]:
    query = select(jobs).where(jobs.c.tenant == tenant).order_by(jobs.c.created_at.desc()).limit(limit)
    return [_job(row) for row in tx.execute(query)]


def acquire(tx: Connection, job_id: str) -> Job | None:
    """Take the lease of a job that nobody holds; None if somebody does, or it is finished."""
    clock = now()
    free = or_(jobs.c.state == QUEUED, (jobs.c.state == RUNNING) & (jobs.c.lease_until < clock))
    taken = tx.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id, free)
        .values(state=RUNNING, lease_until=clock + LEASE_US, updated_at=clock)
    )
    if taken.rowcount == 0:
        return None
    return _job(tx.execute(select(jobs).where(jobs.c.job_id == job_id)).one())


def renew(tx: Connection, job_id: str) -> None:
    """A heartbeat of the work at hand. Raises Conflict if the job was cancelled meanwhile."""
    clock = now()
    renewed = tx.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.state == RUNNING)
        .values(lease_until=clock + LEASE_US, updated_at=clock)
    )
    if renewed.rowcount == 0:
        raise Conflict(f"job {job_id} is not running any more")


def progress(
    tx: Connection, job_id: str, cursor: int, counts: Mapping[str, int], failures: Sequence[Mapping[str, Any]]
) -> None:
    """Note durably handled input, in the very transaction that handled it."""
    values = {
        "cursor": cursor,
        "counts": dict(counts),
        "failures": list(failures)[:MAX_FAILURES],
        "updated_at": now(),
        "lease_until": now() + LEASE_US,
    }
    if tx.execute(update(jobs).where(jobs.c.job_id == job_id, jobs.c.state == RUNNING).values(values)).rowcount == 0:
        raise Conflict(f"job {job_id} is not running any more")


def set_total(tx: Connection, job_id: str, total: int) -> None:
    tx.execute(update(jobs).where(jobs.c.job_id == job_id).values(total=total, updated_at=now()))


def finish(tx: Connection, job_id: str, state: str, error: str = "") -> None:
    """End a running job; one that was cancelled stays cancelled."""
    tx.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.state.in_((QUEUED, RUNNING)))
        .values(state=state, error=error, lease_until=0, updated_at=now())
    )


def abandoned(tx: Connection) -> list[str]:
    """Jobs nobody works on: queued a while ago, or with an expired lease."""
    clock = now()
    waiting = (jobs.c.state == QUEUED) & (jobs.c.updated_at < clock - LEASE_US // 3)
    expired = (jobs.c.state == RUNNING) & (jobs.c.lease_until < clock)
    return list(tx.execute(select(jobs.c.job_id).where(or_(waiting, expired))).scalars())


def _job(row: Row[Any]) -> Job:
    names = Job.__dataclass_fields__
    return Job(**{name: getattr(row, name) for name in names})
