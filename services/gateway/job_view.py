"""A job as the API shows it: once, or as it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from services.catalog import jobs
from services.catalog.pace import Rate, rate
from services.common.moment import now
from services.gateway.context import Context
from services.gateway.listening import HEARTBEAT, sse
from services.orchestrator.graph.answer import iso

_LOOK_SECONDS = 0.25
_QUIET_US = 10_000_000
"""A job that has stood still for so long says so."""
_COUNTS = {
    "documents": ("documents", "versions", "passages", "encoded", "skipped", "failed"),
    "facts": ("facts", "skipped", "failed"),
}


def job_json(job: jobs.Job) -> dict[str, Any]:
    """A job as the API shows it; a count that does not belong to its kind is shown where it is not zero.

    `rate` is that of the last minute while it runs and that of the whole job afterwards; `note` is there when the job
    waits for something.
    """
    usual = _COUNTS.get(job.kind, ())
    more = {name: count for name, count in job.counts.items() if count and name not in usual}
    clock = now()
    speed, note = _rate(job, clock), _note(job, clock)
    return {
        "id": job.job_id,
        "kind": job.kind,
        "collection": job.collection,
        "state": job.state,
        "total": job.total,
        "done": job.cursor,
        "counts": {**{name: job.counts.get(name, 0) for name in usual}, **more},
        "rate": speed and {"rows": round(speed.rows, 3), "passages": round(speed.passages, 3)},
        "eta_seconds": _eta_seconds(job, speed),
        "failures": list(job.failures),
        "error": job.error or None,
        **({"note": note} if note else {}),
        "attempts": job.attempts,
        "created_at": iso(job.created_at),
        "started_at": None if job.started_at is None else iso(job.started_at),
        "updated_at": iso(job.updated_at),
    }


async def progress(context: Context, job: jobs.Job) -> AsyncIterator[str]:
    """The job each time it has changed, up to its end, as server-sent events."""
    clock = asyncio.get_running_loop().time
    yield sse("progress", job_json(job))
    told, told_at = _shown(job), clock()
    while job.state not in jobs.FINISHED:
        await asyncio.sleep(_LOOK_SECONDS)
        job = await read(context, job.tenant, job.job_id)
        if _shown(job) != told:
            yield sse("progress", job_json(job))
            told, told_at = _shown(job), clock()
        elif clock() - told_at >= context.settings.heartbeat_seconds:
            yield HEARTBEAT
            told_at = clock()
    yield sse("done", job_json(job))


async def read(context: Context, tenant: str, job_id: str) -> jobs.Job:
    """Raises JobNotFound."""

    def within() -> jobs.Job:
        with context.catalog.read() as tx:
            return jobs.get(tx, tenant, job_id)

    return await asyncio.to_thread(within)


def _shown(job: jobs.Job) -> tuple[object, ...]:
    """What a change of is worth an event; a renewed lease is none."""
    return job.state, job.cursor, job.total, dict(job.counts), job.error, _note(job, now())


def _rate(job: jobs.Job, clock: int) -> Rate | None:
    if job.state == jobs.RUNNING:
        return rate(job.pace, clock)
    if job.state == jobs.QUEUED or job.started_at is None:
        return None
    return rate([[job.started_at, 0, 0], [job.updated_at, job.cursor, job.counts.get("passages", 0)]], job.updated_at)


def _eta_seconds(job: jobs.Job, speed: Rate | None) -> float | None:
    if job.state != jobs.RUNNING or speed is None or job.total is None:
        return None
    left = speed.eta_seconds(max(0, job.total - job.cursor))
    return None if left is None else round(left, 1)


def _note(job: jobs.Job, clock: int) -> str:
    if job.note:
        return job.note
    if job.state == jobs.QUEUED and clock - job.updated_at > _QUIET_US:
        return "waits its turn: no worker has taken it up yet"
    if job.state == jobs.RUNNING and clock - job.lease_until > 0:
        return "its worker has fallen silent; another takes it up within seconds"
    if job.state == jobs.RUNNING and job.pace and clock - job.pace[-1][0] > _QUIET_US:
        return "at work, but no row was finished for a while"
    return ""
