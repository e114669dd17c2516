"""Rebuild: index and features anew from catalog and vector files alone; nothing is encoded.

The index is built beside the one that serves and takes its place when it has caught up, so questions do not notice.
A feature view is dropped and appended anew: what reads it waits as long as that takes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pipelines.advance import Readers
from services.catalog import erasing, jobs
from services.catalog.engine import Database
from services.catalog.profiles import PROFILE_VIEWS, profiled_tenants
from services.catalog.records import Generation
from services.catalog.state import VIEWS, forget_reader, index_reader, known_collections
from services.common.errors import Conflict, Unavailable
from services.common.nodes.features import PROFILES, Features
from services.common.nodes.retriever import Retriever

_TRIES = 5
"""How often the index may have fallen behind again before it is put in place."""


def beside(generation: Generation) -> str:
    """What a generation is called while it is built beside itself."""
    return f"{generation.name}.rebuild"


@dataclass(frozen=True, slots=True)
class Rebuilder:
    catalog: Database
    readers: Readers
    retriever: Retriever
    features: Features

    async def run(self, job: jobs.Job, generation: Generation) -> None:
        """Rebuild the generation's index and every feature view. Raises Unavailable while a document is erased."""
        if await asyncio.to_thread(self._erasing):
            raise Unavailable("a document is being erased; the rebuild begins once that is done")
        await self._index(generation)
        await asyncio.to_thread(self._note, job, generation, 1)
        await self._views()
        await asyncio.to_thread(self._note, job, generation, 2)

    async def _index(self, generation: Generation) -> None:
        fresh = beside(generation)
        await self.retriever.drop(fresh)
        for tried in range(1, _TRIES + 1):
            for tenant, name, recorded in await asyncio.to_thread(self._known):
                await self.readers.advance_index(generation, tenant, name, recorded, under=fresh)
            try:
                await self.retriever.replace(generation.name, fresh)
            except Conflict:
                if tried == _TRIES:
                    raise
            else:
                return

    async def _views(self) -> None:
        for tenant, name, recorded in await asyncio.to_thread(self._known):
            for view in VIEWS:
                await self.features.drop(view, tenant, name)
                await self.readers.advance_view(view, tenant, name, recorded)
        for tenant, recorded in await self.catalog.reading(profiled_tenants):
            for view in PROFILE_VIEWS:
                await self.features.drop(view, tenant, PROFILES)
            await self.readers.advance_profiles(tenant, recorded)

    def _erasing(self) -> bool:
        with self.catalog.read() as tx:
            return erasing.any_under_way(tx)

    def _known(self) -> list[tuple[str, str, int]]:
        with self.catalog.read() as tx:
            return known_collections(tx)

    def _note(self, job: jobs.Job, generation: Generation, done: int) -> None:
        with self.catalog.write() as tx:
            forget_reader(tx, index_reader(beside(generation)))
            jobs.set_total(tx, job.job_id, 2)
            jobs.progress(tx, job.job_id, done, {}, (), job.attempts)
