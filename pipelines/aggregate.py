"""Aggregate: count the events that are due, and bring the counts to the features node, by its own Append alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from pipelines.follow import Follower
from services.catalog import events
from services.catalog.reading import collection as collection_row
from services.catalog.records import Generation
from services.catalog.state import live_generation
from services.common.nodes.features import Features
from services.common.nodes.usage import USAGE


@dataclass(frozen=True, slots=True)
class Aggregator:
    """`follower` brings the readers up to the record."""

    follower: Follower
    features: Features

    async def count(self) -> int:
        """Count all events that are due and bring every reader past them; returns how many there were.

        Killed in between, they are on record all the same, and the sweeper brings the readers up to it.
        """
        catalog, counted = self.follower.catalog, 0
        for tenant, collection in await catalog.reading(events.due):
            while new := await catalog.writing(partial(_record, tenant, collection)):
                counted += new
            generation, recorded = await catalog.reading(partial(_newest, tenant, collection))
            await self.follower.bring_live(generation, tenant, collection, recorded)
        return counted

    async def materialize(self) -> None:
        """Bring the online store up to the counts of now."""
        await self.features.materialize(USAGE)


def _record(tenant: str, collection: str, tx: Connection) -> int:
    return events.record(tx, tenant, collection)


def _newest(tenant: str, collection: str, tx: Connection) -> tuple[Generation, int]:
    return live_generation(tx), collection_row(tx, tenant, collection).recorded_at
