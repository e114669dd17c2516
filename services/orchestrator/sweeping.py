"""The sweeper: whatever the queue forgot or a crash left undone is found in the catalog and taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from pipelines.follow import Follower
from services.catalog import erasing, jobs
from services.catalog.engine import Database
from services.catalog.profiles import lagging_profiles, profiled_tenants
from services.catalog.records import Generation
from services.catalog.state import VIEWS, index_reader, known_collections, lagging, live_generation, view_reader
from services.common.errors import AlmanacError
from services.orchestrator.graph.names import ANSWERING_KEY, WORKER_ALIVE_KEY
from services.orchestrator.metrics import QUEUED

log = structlog.get_logger()

TIDY_SECONDS = 60.0


class Sweeper:
    """Sweeps until cancelled. `queues` are those whose lengths are told.

    `enqueue` puts a job back on the queue, `tidy` deletes uploads that nothing needs. answering: it takes answers too.
    """

    def __init__(
        self,
        catalog: Database,
        follower: Follower,
        redis: Redis,
        queues: Sequence[str],
        enqueue: Callable[[str], None],
        tidy: Callable[[], object],
        seconds: float,
        answering: bool = True,
    ) -> None:
        self._catalog, self._follower, self._redis, self._queues = catalog, follower, redis, queues
        self._enqueue, self._tidy, self._seconds = enqueue, tidy, seconds
        self._alive = (WORKER_ALIVE_KEY, ANSWERING_KEY) if answering else (WORKER_ALIVE_KEY,)
        self._tidied = -TIDY_SECONDS

    async def run(self) -> None:
        await self._guarded(self._verify)
        while True:
            await self._guarded(self._sweep)
            await self._guarded(self._tidy_sometimes)
            await asyncio.sleep(self._seconds)

    async def _guarded(self, work: Callable[[], object]) -> None:
        """One failed sweep must not be the last."""
        try:
            await work()  # type: ignore[misc]
        except (AlmanacError, RedisError, OSError) as error:
            log.warning("sweep_failed", reason=str(error))
        except Exception:
            log.exception("sweep_failed")

    async def _verify(self) -> None:
        """A reader that has lost what it once applied is brought up to date again."""
        generation, everything = await asyncio.to_thread(self._known)
        for tenant, collection, recorded in everything:
            await self._follower.bring_live(generation, tenant, collection, recorded)
        for tenant, recorded in await self._catalog.reading(profiled_tenants):
            await self._follower.readers.advance_profiles(tenant, recorded)

    async def _sweep(self) -> None:
        for key in self._alive:
            await self._redis.set(key, 1, ex=max(6, int(self._seconds * 3)))
        for queue in self._queues:
            QUEUED.labels(queue).set(await self._redis.llen(queue))  # type: ignore[misc]
        for job_id in await asyncio.to_thread(self._abandoned):
            log.info("job_requeued", job_id=job_id)
            await asyncio.to_thread(self._enqueue, job_id)
        if await asyncio.to_thread(self._lagging):
            await self._verify()
        for tenant, recorded in await self._catalog.reading(lagging_profiles):
            await self._follower.readers.advance_profiles(tenant, recorded)

    async def _tidy_sometimes(self) -> None:
        clock = asyncio.get_running_loop().time()
        if clock - self._tidied >= TIDY_SECONDS:
            self._tidied = clock
            await asyncio.to_thread(self._tidy)

    def _known(self) -> tuple[Generation, list[tuple[str, str, int]]]:
        with self._catalog.read() as tx:
            return live_generation(tx), known_collections(tx)

    def _abandoned(self) -> list[str]:
        with self._catalog.read() as tx:
            stalled = erasing.stalled(tx)
        if stalled:
            with self._catalog.write() as tx:
                erasing.resume(tx)
        with self._catalog.read() as tx:
            return [job.job_id for job in jobs.abandoned(tx)]

    def _lagging(self) -> bool:
        with self._catalog.read() as tx:
            readers = [index_reader(live_generation(tx).name), *(view_reader(view) for view in VIEWS)]
            return bool(lagging(tx, readers))
