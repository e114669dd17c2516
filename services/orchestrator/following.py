"""Generations beside the live one: those that wait or are kept get every commit too, those given up lose their index.

In a loop of its own, at its own pace: neither the live generation nor the sweeper waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog
from sqlalchemy import Connection

from pipelines.follow import Follower
from services.catalog import generations
from services.catalog.records import Generation
from services.catalog.state import known_collections, late_collections
from services.common.nodes.retriever import Retriever

log = structlog.get_logger()


class Following:
    """Follows until cancelled. `follower` is throttled; `seconds` lie between two looks."""

    def __init__(self, follower: Follower, retriever: Retriever, seconds: float) -> None:
        self._follower, self._retriever, self._seconds = follower, retriever, seconds
        self._catalog = follower.catalog
        self._checked: set[str] = set()
        """Generations whose index was looked at as a whole."""
        self._gone: set[str] = set()
        """Dropped generations whose index was gone at the last look."""

    async def run(self) -> None:
        while True:
            await self._guarded("drop", self._drop)
            await self._each(self._follow)
            await asyncio.sleep(self._seconds)

    async def _each(self, work: Callable[[Generation], Awaitable[None]]) -> None:
        """One generation that cannot be followed, for want of its encoder say, keeps no other back."""

        async def all_of_them() -> None:
            for generation in await self._catalog.reading(generations.followed):
                await self._guarded(generation.name, partial(work, generation))

        await self._guarded("all", all_of_them)

    async def _guarded(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            log.warning("follow_failed", generation=name, reason=str(error), kind=type(error).__name__)

    async def _follow(self, generation: Generation) -> None:
        """At the first look every collection, for an index may have lost what it once applied; then what is behind."""
        name = generation.name
        checked = name in self._checked
        look = partial(late_collections, generation=generation) if checked else known_collections
        collections = await self._catalog.reading(look)
        if collections and await self._bring(generation, collections):
            self._checked.add(name)

    async def _bring(self, generation: Generation, collections: Sequence[tuple[str, str, int]]) -> bool:
        """Up to the record, by one worker at a time, so that none encodes what another does already.

        Whether it was done here, to the end.
        """
        write, name = self._catalog.writing, generation.name
        held = await write(lambda tx: generations.follow(tx, name))
        if not held:
            return False
        try:
            for where in collections:
                async for _ in self._follower.steps(generation, *where):
                    held = await write(partial(_renewed, name, held))
                    if not held:
                        return False
            return True
        finally:
            await write(lambda tx: generations.unfollow(tx, name, held))

    async def _drop(self) -> None:
        """A build that was just cancelled may still write: an index counts as gone once it is so at two looks."""
        for name in await self._catalog.reading(generations.dropping):
            if await self._retriever.standing(name) is not None:
                self._gone.discard(name)
                await self._retriever.drop(name)
            elif name in self._gone:
                await self._catalog.writing(partial(generations.dropped, name=name))
            else:
                self._gone.add(name)


def _renewed(name: str, held: int, tx: Connection) -> int:
    return generations.follow(tx, name, held)
