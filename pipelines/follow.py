"""Follow: bring one generation of the index up to the record, in steps of a bearable size.

Passages and questions without a vector of the generation's encoder are encoded first; vector files are committed batch
by batch, so that nothing is encoded twice whatever is killed.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection

from pipelines.advance import Readers
from pipelines.encode import encode
from services.catalog.commit import VectorFile
from services.catalog.engine import Database
from services.catalog.following import add_vectors, points_within, stretch_end, unencoded
from services.catalog.records import Generation
from services.catalog.state import VIEWS
from services.catalog.vectors import VectorFiles
from services.common.batches import batched
from services.common.nodes.encoder import Encoder
from services.common.nodes.retriever import Retriever
from services.common.nodes.scope import Stretch

STEP_POINTS = 256
"""Points sent to the index between two looks at whether to go on."""
STEP_TEXTS = 32
"""Texts encoded between two pauses: half a call of ingestion's, so that queries soon have their turn."""


@dataclass(frozen=True, slots=True)
class Step:
    """What was just done: texts encoded, or points applied."""

    encoded: int = 0
    points: int = 0


@dataclass(frozen=True, slots=True)
class Follower:
    """`share`: the part of the time it may work; the rest is left to questions and ingestion."""

    catalog: Database
    files: VectorFiles
    encoder: Encoder
    readers: Readers
    retriever: Retriever
    share: float = 1.0

    async def bring(self, generation: Generation, tenant: str, collection: str, to: int) -> None:
        """Encode what is missing, then apply all that was recorded up to `to`."""
        async for _ in self.steps(generation, tenant, collection, to):
            pass

    async def bring_live(self, generation: Generation, tenant: str, collection: str, to: int) -> None:
        """The same for the live generation, and the feature views with it."""
        views = (self.readers.advance_view(view, tenant, collection, to) for view in VIEWS)
        await asyncio.gather(self.bring(generation, tenant, collection, to), *views)

    async def steps(self, generation: Generation, tenant: str, collection: str, to: int) -> AsyncIterator[Step]:
        """The same, step by step; given up after any of them, what was done stays done."""
        position = await self.retriever.position(generation.name, tenant, collection)
        if position >= to:  # what the catalog knows of it may be older
            await self.readers.advance_index(generation, tenant, collection, to)
        async for stretch, points in self._stretches(Stretch(tenant, collection, position, to)):
            async for step in self._encoded(generation, stretch):
                yield step
            began = time.monotonic()
            await self.readers.advance_index(generation, tenant, collection, stretch.end)
            yield Step(points=points)
            await self._pause(began)

    async def encode(self, generation: Generation, stretch: Stretch) -> AsyncIterator[Step]:
        """Give every item recorded in the stretch a vector of the generation's encoder."""
        async for part, _ in self._stretches(stretch):
            async for step in self._encoded(generation, part):
                yield step

    async def _stretches(self, rest: Stretch) -> AsyncIterator[tuple[Stretch, int]]:
        """The stretch in parts that are bearable in one go, each with its number of points."""
        while rest.start < rest.end:
            part, points = await self.catalog.reading(partial(_first_part, rest))
            yield part, points
            rest = replace(rest, start=part.end)

    async def _encoded(self, generation: Generation, stretch: Stretch) -> AsyncIterator[Step]:
        texts = await self.catalog.reading(lambda tx: unencoded(tx, generation.encoder, stretch))
        for items in batched(texts, STEP_TEXTS):
            began = time.monotonic()
            await self._encode(generation, stretch, {item: texts[item] for item in items})
            yield Step(encoded=len(items))
            await self._pause(began)

    async def _encode(self, generation: Generation, stretch: Stretch, texts: Mapping[str, str]) -> None:
        vectors = await encode(self.encoder, generation.encoder, texts.values(), generation.dimensions)
        file = VectorFile(str(uuid.uuid4()), generation.encoder, list(texts))

        def commit() -> None:
            self.files.write(file.file_id, file.item_ids, vectors)
            try:
                with self.catalog.write() as tx:
                    add_vectors(tx, stretch, file)
            except Exception:
                self.files.remove(file.file_id)
                raise

        await asyncio.to_thread(commit)

    async def _pause(self, began: float) -> None:
        if self.share < 1.0:
            await asyncio.sleep((time.monotonic() - began) * (1.0 / self.share - 1.0))


def _first_part(rest: Stretch, tx: Connection) -> tuple[Stretch, int]:
    part = replace(rest, end=stretch_end(tx, rest, STEP_POINTS))
    return part, points_within(tx, part)
