"""Reindex: build a generation beside the live one, from catalog and vector files, while everything else goes on.

Nothing of it is kept in memory: vectors are committed batch by batch, the index keeps its own watermarks, and a job
that is taken up again goes on from there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from pipelines.follow import Follower, Step
from pipelines.rotate import SAMPLE, fit
from services.catalog import generations, jobs
from services.catalog.engine import Database
from services.catalog.following import count_unencoded, points_within, sample
from services.catalog.records import Generation
from services.catalog.state import basis, index_reader, known_collections, late_collections, set_watermark, watermark
from services.catalog.vectors import VectorFiles
from services.common.moment import OPEN_START
from services.common.nodes.funnel import Rotation
from services.common.nodes.retriever import Retriever
from services.common.nodes.scope import Stretch

LOOK_SECONDS = 1.0
"""Between two looks at whether the index still builds."""


@dataclass(frozen=True, slots=True)
class Builder:
    """What a build works with. The follower's share is the throttle."""

    catalog: Database
    files: VectorFiles
    follower: Follower
    retriever: Retriever

    async def run(self, job: jobs.Job, _: Generation) -> None:
        """Build the generation that the job names until it is ready. Raises Conflict once it is given up."""
        name = str(job.request["generation"])
        found = await self.catalog.reading(lambda tx: generations.standing(tx, name))
        if found.state == generations.BUILDING:
            await _Run(self, job, found.generation).work()


class _Run:
    """One build at work. Its progress counts texts that have a vector, and points that are in the index."""

    def __init__(self, builder: Builder, job: jobs.Job, generation: Generation) -> None:
        self._builder, self._job, self._generation = builder, job, generation
        self._reader = index_reader(generation.name)
        self._counts = dict(job.counts)

    async def work(self) -> None:
        builder, generation = self._builder, self._generation
        if generation.funnel.rotation is not Rotation.NONE:
            await self._rotate()
        found = await builder.catalog.reading(lambda tx: basis(tx, generation))
        await builder.retriever.define(generation.name, generation.funnel, found)
        await self._recall()
        while True:
            await self._measure()
            for tenant, collection, recorded in await self._behind():
                async for step in builder.follower.steps(generation, tenant, collection, recorded):
                    await self._note(step)
            if not await self._behind() and not await self._builds():
                break
        await builder.catalog.writing(self._finish)

    async def _rotate(self) -> None:
        """Fit the basis on the corpus, which is encoded first where the encoder has not seen it."""
        builder, generation = self._builder, self._generation
        if await builder.catalog.reading(lambda tx: basis(tx, generation)) is not None:
            return
        await self._measure()
        for tenant, collection, recorded in await builder.catalog.reading(known_collections):
            whole = Stretch(tenant, collection, OPEN_START, recorded)
            async for step in builder.follower.encode(generation, whole):
                await self._note(step)
        drawn = await builder.catalog.reading(lambda tx: sample(tx, builder.files, generation, SAMPLE))
        rotation = await asyncio.to_thread(fit, drawn, generation.funnel.dimensions)
        await builder.catalog.writing(lambda tx: generations.set_basis(tx, generation.name, rotation))
        self._counts["sample"] = len(drawn)

    async def _recall(self) -> None:
        """What the index says it has counts, not what was noted: it may have lost or gained since."""
        for tenant, collection, _ in await self._builder.catalog.reading(known_collections):
            position = await self._builder.retriever.position(self._generation.name, tenant, collection)
            await self._builder.catalog.writing(partial(self._mark, tenant, collection, position))

    def _mark(self, tenant: str, collection: str, position: int, tx: Connection) -> None:
        set_watermark(tx, self._reader, tenant, collection, position)

    async def _behind(self) -> list[tuple[str, str, int]]:
        return await self._builder.catalog.reading(lambda tx: late_collections(tx, self._generation))

    async def _builds(self) -> bool:
        """Whether the index builds; a build begins a moment after the points that call for it."""
        await asyncio.sleep(LOOK_SECONDS)
        note = "waits for the index to build its structure"
        await self._builder.catalog.writing(lambda tx: jobs.remark(tx, self._job.job_id, note, self._job.attempts))
        standing = await self._builder.retriever.standing(self._generation.name)
        return standing is not None and standing.building

    async def _measure(self) -> None:
        """How much there is to do in all, and how much of it is done."""

        def measured(tx: Connection) -> tuple[int, int, int]:
            points = applied = missing = 0
            for tenant, collection, recorded in known_collections(tx):
                whole = Stretch(tenant, collection, OPEN_START, recorded)
                mark = watermark(tx, self._reader, tenant, collection)
                points += points_within(tx, whole)
                applied += points_within(tx, Stretch(tenant, collection, OPEN_START, min(mark, recorded)))
                missing += count_unencoded(tx, self._generation.encoder, whole)
            return points, applied, missing

        points, applied, missing = await self._builder.catalog.reading(measured)
        encoded = self._counts.get("encoded", 0)
        self._counts["points"] = applied
        await self._builder.catalog.writing(lambda tx: jobs.set_total(tx, self._job.job_id, points + encoded + missing))
        await self._note(Step())

    async def _note(self, step: Step) -> None:
        """Raises Conflict once the job was cancelled or taken over, or the generation was dropped."""
        self._counts["encoded"] = self._counts.get("encoded", 0) + step.encoded
        self._counts["points"] = self._counts.get("points", 0) + step.points
        done = self._counts["encoded"] + self._counts["points"]

        def write(tx: Connection) -> None:
            jobs.progress(tx, self._job.job_id, done, self._counts, (), self._job.attempts)

        await self._builder.catalog.writing(write)

    def _finish(self, tx: Connection) -> None:
        jobs.renew(tx, self._job.job_id, self._job.attempts)
        generations.mark_ready(tx, self._generation.name)
