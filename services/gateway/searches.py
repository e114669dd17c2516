"""The searches that were answered, on their way to the catalog's log of events: gathered, so that none waits for it."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError

from services.catalog import events
from services.catalog.engine import Database
from services.common.moment import now

log = structlog.get_logger()

PAUSE_SECONDS = 1.0
MOST = 10_000
"""Searches held while the catalog does not answer; beyond, the oldest are not counted."""


class Searches:
    """Written about once a second. What a killed gateway still held is not counted."""

    def __init__(self, catalog: Database, pause: float = PAUSE_SECONDS) -> None:
        self._catalog, self._pause = catalog, pause
        self._held: deque[events.Search] = deque(maxlen=MOST)
        self._writing: asyncio.Task[None] | None = None

    def note(self, tenant: str, collection: str, documents: Sequence[str]) -> None:
        """Have a search counted that gave passages of these documents."""
        if documents:
            self._held.append(events.Search(str(uuid.uuid4()), tenant, collection, now(), documents))
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write_soon())

    async def close(self) -> None:
        """Write what is held."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._write()

    async def _write_soon(self) -> None:
        while self._held:
            await asyncio.sleep(self._pause)
            await self._write()

    async def _write(self) -> None:
        """Written twice, for an answer that was lost, a search still counts once."""
        searches = list(self._held)
        try:
            await self._catalog.writing(lambda tx: events.searched(tx, searches))
        except SQLAlchemyError as error:
            log.warning("searches_not_logged", searches=len(searches), reason=str(error))
            return
        for search in searches:
            if self._held and self._held[0] is search:
                self._held.popleft()
