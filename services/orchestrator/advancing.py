"""Bring the readers up to date at once, where something was recorded that no job follows up."""

from __future__ import annotations

import asyncio

import structlog

from pipelines.follow import Follower
from services.catalog.engine import Database
from services.catalog.profiles import newest as newest_profile
from services.catalog.reading import collection as collection_row
from services.catalog.records import Generation
from services.catalog.state import live_generation
from services.common.errors import AlmanacError
from services.common.nodes.features import PROFILES
from services.common.rpc.deadlines import deadline

log = structlog.get_logger()

SECONDS = 60.0


async def work(catalog: Database, follower: Follower, tenant: str, collection: str) -> None:
    """Apply all that is recorded in the collection, or of the tenant's profiles. What fails here is left to the
    sweeper."""
    try:
        if collection == PROFILES:
            with deadline(SECONDS):
                to = await catalog.reading(lambda tx: newest_profile(tx, tenant))
                await follower.readers.advance_profiles(tenant, to)
            return
        generation, recorded = await asyncio.to_thread(_newest, catalog, tenant, collection)
        with deadline(SECONDS):
            await follower.bring_live(generation, tenant, collection, recorded)
    except AlmanacError as error:
        log.warning("advance_failed", tenant=tenant, collection=collection, reason=error.detail)


def _newest(catalog: Database, tenant: str, collection: str) -> tuple[Generation, int]:
    with catalog.read() as tx:
        return live_generation(tx), collection_row(tx, tenant, collection).recorded_at
