"""Advance: bring every reader up to what the catalog has recorded, each from its own watermark."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

from services.catalog.changes import feature_changes, index_changes
from services.catalog.engine import Database
from services.catalog.profiles import PROFILE_VIEWS, profile_changes
from services.catalog.records import Generation
from services.catalog.state import VIEWS, basis, index_reader, set_watermark, view_reader
from services.catalog.vectors import VectorFiles
from services.common.moment import OPEN_START
from services.common.nodes.features import PROFILES, Features
from services.common.nodes.retriever import Changes, Retriever, Vectors
from services.common.nodes.scope import Stretch

Batch = TypeVar("Batch")


class Readers:
    """The index and the feature views, advanced one stretch at a time."""

    def __init__(self, catalog: Database, files: VectorFiles, retriever: Retriever, features: Features) -> None:
        self._catalog, self._files = catalog, files
        self._retriever, self._features = retriever, features

    async def advance(self, generation: Generation, tenant: str, collection: str, to: int) -> None:
        """Apply all that was recorded up to `to`, everywhere; what a reader has already is not sent again."""
        await asyncio.gather(
            self.advance_index(generation, tenant, collection, to),
            *(self.advance_view(view, tenant, collection, to) for view in VIEWS),
        )

    async def advance_index(
        self, generation: Generation, tenant: str, collection: str, to: int, under: str = ""
    ) -> None:
        """Apply all that was recorded up to `to`. `under`: another name that the generation is built under."""
        name = under or generation.name
        position = await self._retriever.position(name, tenant, collection)
        if position < to:
            if position == OPEN_START:
                await self._retriever.define(name, generation.funnel, await self._basis(generation))
            stretch = Stretch(tenant, collection, position, to)
            batches = self._snapshot(lambda tx: index_changes(tx, self._files, generation, stretch))
            position = await self._retriever.apply(name, stretch, batches)
        await self._note(index_reader(name), tenant, collection, position)

    async def settle(self, generation: Generation, tenant: str, collection: str) -> None:
        """Wait until whatever is being applied to a generation is done: the index applies one stretch at a time."""
        if await self._retriever.standing(generation.name) is not None:
            position = await self._retriever.position(generation.name, tenant, collection)
            await self._retriever.apply(generation.name, Stretch(tenant, collection, position, position), _nothing())

    async def advance_view(self, view: str, tenant: str, collection: str, to: int) -> None:
        position = await self._features.position(view, tenant, collection)
        if position < to:
            stretch = Stretch(tenant, collection, position, to)
            changes = profile_changes if view in PROFILE_VIEWS else feature_changes
            rows = self._snapshot(lambda tx: changes(tx, view, stretch))
            position = await self._features.append(view, stretch, rows)
        await self._note(view_reader(view), tenant, collection, position)

    async def advance_profiles(self, tenant: str, to: int) -> None:
        """Apply all profiles of a tenant that were recorded up to `to`."""
        await asyncio.gather(*(self.advance_view(view, tenant, PROFILES, to) for view in PROFILE_VIEWS))

    async def _basis(self, generation: Generation) -> Vectors | None:
        def read() -> Vectors | None:
            with self._catalog.read() as tx:
                return basis(tx, generation)

        return await asyncio.to_thread(read)

    async def _note(self, reader: str, tenant: str, collection: str, position: int) -> None:
        def write() -> None:
            with self._catalog.write() as tx:
                set_watermark(tx, reader, tenant, collection, position)

        await asyncio.to_thread(write)

    async def _snapshot(self, select: Callable[..., Iterator[Batch]]) -> AsyncIterator[Batch]:
        """The batches of one consistent snapshot, read off the event loop and a batch ahead of its reader."""
        with self._catalog.read() as tx:
            batches = select(tx)
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                yield batch


async def _nothing() -> AsyncIterator[Changes]:
    none: tuple[Changes, ...] = ()
    for changes in none:
        yield changes
