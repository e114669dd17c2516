"""Work on one ingestion job: leased, renewed while it lasts, tried again while a node does not answer."""

from __future__ import annotations

import asyncio

import structlog

from pipelines.ingest import Pipeline
from services.catalog import jobs
from services.catalog.engine import Database
from services.catalog.records import Generation
from services.catalog.state import live_generation
from services.common.errors import AlmanacError, DeadlineExceeded, Unavailable

log = structlog.get_logger()

RENEW_SECONDS = 3.0
LONGEST_PAUSE = 30.0


async def work(pipeline: Pipeline, job_id: str, retries: int) -> None:
    """Work the job to its end, unless somebody else holds it."""
    if await asyncio.to_thread(_acquire, pipeline.catalog, job_id) is None:
        return
    renewing = asyncio.create_task(_renew(pipeline.catalog, job_id))
    working = asyncio.create_task(_persist(pipeline, job_id, retries))
    await asyncio.wait((renewing, working), return_when=asyncio.FIRST_COMPLETED)
    for task in (renewing, working):
        task.cancel()
    lease, worked = await asyncio.gather(renewing, working, return_exceptions=True)
    outcome = lease if isinstance(worked, asyncio.CancelledError) else worked
    await asyncio.to_thread(_finish, pipeline.catalog, job_id, outcome)


async def _renew(catalog: Database, job_id: str) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        await asyncio.to_thread(_touch, catalog, job_id)


async def _persist(pipeline: Pipeline, job_id: str, retries: int) -> bool:
    """Run until done; a node that does not answer is waited for, each time longer, from where the job stands."""
    pause = 0.5
    for tried in range(retries + 1):
        job, generation = await asyncio.to_thread(_read, pipeline.catalog, job_id)
        try:
            await pipeline.run(job, generation)
        except (Unavailable, DeadlineExceeded) as error:
            if tried == retries:
                raise
            log.warning("ingest_waits", job_id=job_id, reason=error.detail, seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return True
    raise AssertionError("unreachable")


def _acquire(catalog: Database, job_id: str) -> jobs.Job | None:
    with catalog.write() as tx:
        return jobs.acquire(tx, job_id)


def _touch(catalog: Database, job_id: str) -> None:
    with catalog.write() as tx:
        jobs.renew(tx, job_id)


def _read(catalog: Database, job_id: str) -> tuple[jobs.Job, Generation]:
    with catalog.read() as tx:
        return jobs.by_id(tx, job_id), live_generation(tx)


def _finish(catalog: Database, job_id: str, outcome: object) -> None:
    if outcome is True:
        state, error = jobs.DONE, ""
    elif isinstance(outcome, AlmanacError):
        state, error = jobs.FAILED, outcome.detail
    else:
        log.error("ingest_failed", job_id=job_id, exc_info=outcome if isinstance(outcome, Exception) else None)
        state, error = jobs.FAILED, "failed unexpectedly; the worker's log says why"
    with catalog.write() as tx:
        jobs.finish(tx, job_id, state, error)
