"""Work on ingestion jobs: leased, renewed while it lasts, tried again while a node does not answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from pipelines.ingest import Pipeline
from services.catalog import jobs
from services.catalog.records import Generation
from services.catalog.state import live_generation
from services.common.errors import AlmanacError, Conflict, DeadlineExceeded, JobNotFound, Unavailable
from services.orchestrator import uploads
from services.orchestrator.metrics import JOBS, PASSAGES, RETRIES
from services.orchestrator.settings import WorkerSettings
from services.orchestrator.syncing import settle

log = structlog.get_logger()

Work = Callable[[jobs.Job, Generation], Awaitable[None]]
"""Works a job to its end, or raises what stops it."""

RENEW_SECONDS = 1.0
"""Also how long a cancelled job may go on at most, without effect."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
TRANSIENT = (Unavailable, DeadlineExceeded, OperationalError)
"""What passes: a node or a database that does not answer just now."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`retries` of a row that a node does not answer for, `attempts` of a job whose worker dies, jobs side by side."""

    retries: int
    attempts: int
    small: int
    bulk: int

    @classmethod
    def of(cls, settings: WorkerSettings) -> Policy:
        return cls(settings.ingest_retries, settings.ingest_attempts, settings.small_jobs, settings.bulk_jobs)


class Ingestion:
    """The jobs of one worker. Small ones and bulk ones have slots of their own, so that neither waits for the other."""

    def __init__(
        self,
        pipeline: Pipeline,
        policy: Policy,
        others: Mapping[str, Work] = MappingProxyType({}),
        hand_on: Callable[[str], object] = lambda job_id: None,
    ) -> None:
        """`others`: what works on jobs of the kinds that are no ingestion. `hand_on` tells another worker of a job."""
        self._pipeline, self._policy, self._others, self._hand_on = pipeline, policy, others, hand_on
        self._working: set[asyncio.Task[bool]] = set()
        self._stopping = False
        self._slots = {
            jobs.SMALL: asyncio.Semaphore(policy.small),
            jobs.BULK: asyncio.Semaphore(policy.bulk),
            jobs.LONG: asyncio.Semaphore(1),
        }

    async def take_up(self, job_id: str) -> None:
        """Work the job if there is a slot, then all that waits for one. Without a slot, its holder will come to it."""
        try:
            priority = (await self._pipeline.catalog.writing(lambda tx: jobs.by_id(tx, job_id))).priority
        except JobNotFound:
            return
        slots = self._slots[min(priority, jobs.LONG)]
        if slots.locked():
            return
        async with slots:
            following: str | None = job_id
            while following is not None and not self._stopping:
                await self.work(following)
                following = await self._pipeline.catalog.writing(lambda tx: jobs.next_queued(tx, priority))

    def stop(self) -> None:
        """Give back what is in hand, and go on to nothing more. Call on the loop."""
        self._stopping = True
        for working in self._working:
            working.cancel()

    async def work(self, job_id: str) -> None:
        """Work the job to its end, unless somebody else holds it."""
        job = await self._pipeline.catalog.writing(lambda tx: jobs.acquire(tx, job_id, self._policy.attempts))
        if job is None:
            return
        renewing = asyncio.create_task(self._renew(job))
        working = asyncio.create_task(self._persist(job))
        self._working.add(working)
        if self._stopping:
            working.cancel()
        await asyncio.wait((renewing, working), return_when=asyncio.FIRST_COMPLETED)
        for task in (renewing, working):
            task.cancel()
        lease, worked = await asyncio.gather(renewing, working, return_exceptions=True)
        self._working.discard(working)
        if isinstance(lease, asyncio.CancelledError) and isinstance(worked, asyncio.CancelledError):
            await self._give_back(job)
        else:
            await self._finish(job, lease if isinstance(worked, asyncio.CancelledError) else worked)

    async def _give_back(self, job: jobs.Job) -> None:
        """Its cursor says where the next worker goes on; whatever this one still does is fenced by the attempt."""
        if await self._pipeline.catalog.writing(lambda tx: jobs.release(tx, job.job_id, job.attempts)):
            log.info("job_given_back", job_id=job.job_id)
            await asyncio.to_thread(self._hand_on, job.job_id)

    async def _renew(self, job: jobs.Job) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._pipeline.catalog.writing(lambda tx: jobs.renew(tx, job.job_id, job.attempts))
            except OperationalError as error:
                log.warning("lease_not_renewed", job_id=job.job_id, reason=str(error.orig))

    async def _persist(self, job: jobs.Job) -> bool:
        """Run until done; what does not answer is waited for, each time longer, from where the job stands."""
        cursor, tried = job.cursor, 0
        while True:
            try:
                await self._attempt(job)
            except TRANSIENT as error:
                now = await self._pipeline.catalog.writing(lambda tx: jobs.by_id(tx, job.job_id))
                cursor, tried = now.cursor, 1 if now.cursor > cursor else tried + 1
                if tried > self._policy.retries:
                    raise
                await self._wait(job, error, tried)
            else:
                return True

    async def _attempt(self, job: jobs.Job) -> None:
        def read(tx: Connection) -> tuple[jobs.Job, Generation]:
            return jobs.by_id(tx, job.job_id), live_generation(tx)

        current, generation = await self._pipeline.catalog.writing(read)
        if current.attempts != job.attempts:
            raise Conflict(f"another worker has job {job.job_id}")
        if current.kind in self._others:
            await self._others[current.kind](current, generation)
            return
        await self._pipeline.run(current, generation)
        done = await self._pipeline.catalog.writing(lambda tx: jobs.by_id(tx, job.job_id))
        await asyncio.to_thread(settle, self._pipeline.catalog, done, self._pipeline.parsers)
        await asyncio.to_thread(uploads.keep_failed, done)

    async def _wait(self, job: jobs.Job, error: Exception, tried: int) -> None:
        pause = min(FIRST_PAUSE * 2.0 ** (tried - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.5)
        reason = _reason(error)
        RETRIES.labels(job.kind).inc()
        log.warning("ingest_waits", job_id=job.job_id, reason=reason, seconds=round(pause, 2))
        note = f"{reason}; try {tried} of {self._policy.retries} follows"
        await self._pipeline.catalog.writing(lambda tx: jobs.remark(tx, job.job_id, note, job.attempts))
        await asyncio.sleep(pause)

    async def _finish(self, job: jobs.Job, outcome: object) -> None:
        state, error = jobs.DONE, ""
        if outcome is not True:
            state, error = jobs.FAILED, _told(job, outcome)
        ended = await self._pipeline.catalog.writing(lambda tx: jobs.finish(tx, job.job_id, state, error, job.attempts))
        if not ended:
            return
        done = await self._pipeline.catalog.writing(lambda tx: jobs.by_id(tx, job.job_id))
        JOBS.labels(job.kind, state).inc()
        PASSAGES.inc(done.counts.get("passages", 0))
        if state == jobs.DONE:
            await asyncio.to_thread(uploads.release, done)


def _told(job: jobs.Job, outcome: object) -> str:
    if isinstance(outcome, AlmanacError | OperationalError):
        return _reason(outcome)
    log.error("ingest_failed", job_id=job.job_id, exc_info=outcome if isinstance(outcome, Exception) else None)
    return "failed unexpectedly; the worker's log says why"


def _reason(error: Exception) -> str:
    return error.detail if isinstance(error, AlmanacError) else "the catalog's database does not answer"
