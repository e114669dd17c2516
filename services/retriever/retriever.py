"""The retriever: generations of an index, each collection's watermark, and the promise of the moment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

import numpy as np

from services.common.errors import BehindWatermark, Conflict, InvalidRequest, MomentViolation, ScopeMissing
from services.common.moment import OPEN_END, OPEN_START, format_instant
from services.common.nodes.funnel import Funnel, Rotation
from services.common.nodes.retriever import Changes, Contents, Found, Query, Standing, Vectors
from services.common.nodes.scope import Scope, Stretch
from services.common.rpc.deadlines import remaining
from services.retriever.backends import open_engine
from services.retriever.backends.base import Candidate, Candidates, Definition, Engine, Index
from services.retriever.changes import beyond, check, slices
from services.retriever.fusion import fuse
from services.retriever.generation import OpenGeneration
from services.retriever.metrics import BEHIND_SECONDS, count
from services.retriever.settings import RetrieverSettings

MOST_HITS = 1_000
_SLICE = 256
"""Points in one engine call: a search waits no longer than this takes."""
_RESERVE_SECONDS = 0.1
"""Kept back of a deadline, so that BehindWatermark is said before the caller gives up."""
_GENERATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class IndexRetriever:
    """The Retriever over any engine. wait_seconds: the longest wait for a watermark."""

    def __init__(self, engine: Engine, wait_seconds: float = 5.0) -> None:
        self._engine = engine
        self._wait_seconds = wait_seconds
        self._generations: dict[str, OpenGeneration] = {}
        self._opening = asyncio.Lock()

    async def define(self, generation: str, funnel: Funnel, basis: Vectors | None = None) -> None:
        """As the contract says. Raises InvalidRequest where basis and funnel do not fit."""
        _check_basis(funnel, basis)
        definition = Definition(funnel, basis)
        held = await self._find(generation) or await self._create(generation, definition)
        if held.index.definition.funnel != funnel:
            raise Conflict(f"generation {generation!r} has another funnel; give the new one a name of its own")

    async def search(self, query: Query) -> Found:
        """As the contract says; BehindWatermark too where nothing was ever applied."""
        _check_query(query)
        scope = query.scope
        generation = await self._find(scope.generation)
        if generation is None:
            raise BehindWatermark(f"nothing has been applied to generation {scope.generation!r} yet; ask again shortly")
        progress = await generation.progress(scope.tenant, scope.collection)
        if progress.watermark < scope.moment.known_at:  # another process may have applied it
            durable = await generation.run(lambda index: index.watermark(scope.tenant, scope.collection))
            await progress.advance(max(progress.watermark, durable))
        with BEHIND_SECONDS.time():
            await progress.reach(scope.moment.known_at, self._patience())
        funnel = generation.index.definition.funnel
        if query.vector is not None and not funnel.lexical:
            query = replace(query, text="")
        found = await generation.search(query, max(query.limit, funnel.candidates))
        _check_found(found, scope)
        fused = fuse(found, query.limit, funnel.fusion)
        count(fused.plan)
        return fused

    async def apply(self, generation: str, stretch: Stretch, batches: AsyncIterator[Changes]) -> int:
        """As the contract says. Creates an unknown generation; a close must follow the upsert of its point."""
        _check_stretch(stretch)
        held = await self._find(generation) or await self._create(generation, Definition())
        progress = await held.progress(stretch.tenant, stretch.collection)
        async with progress.applying:
            # Durable, not remembered: an apply that was cancelled may have left its commit to the thread.
            watermark = await held.run(lambda index: index.watermark(stretch.tenant, stretch.collection))
            await progress.advance(watermark)
            if stretch.start > watermark:
                raise Conflict(
                    f"the index is at {watermark} ({format_instant(watermark)}); a stretch from {stretch.start} would "
                    "leave out what lies between: send one that starts there"
                )
            if stretch.end > watermark:
                await _apply(held, stretch, watermark, batches)
                await progress.advance(stretch.end)
                held.consider_build()
            return progress.watermark

    async def position(self, generation: str, tenant: str, collection: str) -> int:
        if not tenant or not collection:
            raise ScopeMissing("the request names no tenant or no collection")
        held = await self._find(generation)
        if held is None:
            return OPEN_START
        return (await held.progress(tenant, collection)).watermark

    async def standing(self, generation: str) -> Standing | None:
        held = await self._find(generation)
        return await held.standing() if held else None

    async def contents(self, generation: str, tenant: str, collection: str) -> Contents:
        if not tenant or not collection:
            raise ScopeMissing("the request names no tenant or no collection")
        held = await self._find(generation)
        seen = Contents(0, 0)
        if held is None:
            return seen
        async with held.writing:
            steps = await held.run(lambda index: index.contents(tenant, collection))
            while (more := await held.step(steps)) is not None:
                seen = more
        return seen

    async def erase(self, generation: str, tenant: str, collection: str, doc_id: str) -> int:
        if not tenant or not collection or not doc_id:
            raise ScopeMissing("the request names no tenant, no collection or no document")
        held = await self._find(generation)
        if held is None:
            return 0
        await held.stop_building()
        async with held.writing:
            erased = await held.run(lambda index: index.erase(tenant, collection, doc_id))
            steps = await held.run(lambda index: index.rewrite())
            try:
                while await held.step(steps) is not None:
                    pass
            finally:
                await held.run(lambda _: steps.close())
        held.consider_build()
        return erased

    async def drop(self, generation: str) -> None:
        held = await self._find(generation)
        if held is not None:
            await held.stop_building()
            async with held.writing:
                await self._remove(generation, held)

    async def replace(self, generation: str, by: str) -> None:
        fresh = await self._find(by)
        if fresh is None:
            raise Conflict(f"there is no generation {by!r} to put in the place of {generation!r}; build it first")
        held = await self._find(generation) or await self._create(generation, fresh.index.definition)
        await held.stop_building()
        await fresh.stop_building()
        async with held.writing, fresh.writing:
            behind = await self._behind(held, fresh)
            if behind:
                raise Conflict(f"generation {by!r} is behind in {behind}; advance it, then replace again")
            async with self._opening:
                self._generations.pop(by, None)
                await fresh.close()
                await held.swap(lambda: self._engine.replace(generation, by))
        held.consider_build()

    async def _behind(self, held: OpenGeneration, fresh: OpenGeneration) -> str:
        """The collections in which the one is not as far as the other."""
        reached = await held.run(lambda index: index.watermarks())
        new = await fresh.run(lambda index: index.watermarks())
        return ", ".join(sorted(where[1] for where, mark in reached.items() if new.get(where, OPEN_START) < mark))

    async def _remove(self, name: str, held: OpenGeneration) -> None:
        async with self._opening:
            self._generations.pop(name, None)
            await held.close()
            await asyncio.to_thread(self._engine.drop, name)

    async def close(self) -> None:
        """Close every index. The retriever is not to be used afterwards."""
        for generation in self._generations.values():
            await generation.close()

    def _patience(self) -> float:
        left = remaining(self._wait_seconds + _RESERVE_SECONDS) - _RESERVE_SECONDS
        return max(0.0, min(self._wait_seconds, left))

    async def _find(self, name: str) -> OpenGeneration | None:
        return self._generations.get(name) or await self._open(name, self._engine.open)

    async def _create(self, name: str, definition: Definition) -> OpenGeneration:
        created = await self._open(name, lambda name: self._engine.create(name, definition))
        assert created is not None
        return created

    async def _open(self, name: str, how: Callable[[str], Index | None]) -> OpenGeneration | None:
        if not name:
            raise ScopeMissing("the request names no generation")
        if not _GENERATION.fullmatch(name):
            raise InvalidRequest(f"{name[:100]!r} cannot be a generation's name; use letters, digits, '.', '_' and '-'")
        async with self._opening:
            if name not in self._generations:
                index = await asyncio.to_thread(how, name)
                if index is None:
                    return None
                self._generations[name] = OpenGeneration(name, index)
                self._generations[name].consider_build()
            return self._generations[name]


def build(settings: RetrieverSettings) -> IndexRetriever:
    """The retriever the settings describe."""
    return IndexRetriever(open_engine(settings), settings.retriever_wait_seconds)


async def _apply(held: OpenGeneration, stretch: Stretch, watermark: int, batches: AsyncIterator[Changes]) -> None:
    async for changes in batches:
        check(changes, stretch)
        for part in slices(beyond(changes, watermark), _SLICE):
            async with held.writing:
                await held.run(partial(_change, stretch, part))
    async with held.writing:
        await held.run(lambda index: index.commit(stretch.tenant, stretch.collection, stretch.end))


def _change(stretch: Stretch, part: Changes, index: Index) -> None:
    if part.upserts:
        index.upsert(stretch.tenant, stretch.collection, part.upserts, part.vectors)
    if part.closes:
        index.end(stretch.tenant, stretch.collection, part.closes)


def _check_query(query: Query) -> None:
    if not 1 <= query.limit <= MOST_HITS:
        raise InvalidRequest(f"limit is {query.limit}; it must be between 1 and {MOST_HITS}")
    if query.vector is None and not query.text.strip():
        raise InvalidRequest("the search has neither a vector nor text")
    if query.vector is not None and (query.vector.ndim != 1 or not np.isfinite(query.vector).all()):
        raise InvalidRequest(f"the vector has shape {query.vector.shape} or values that are no numbers; send one row")


def _check_basis(funnel: Funnel, basis: Vectors | None) -> None:
    rotated = funnel.rotation is not Rotation.NONE
    if rotated != (basis is not None):
        raise InvalidRequest("a rotated funnel comes with its basis, any other without one")
    if basis is not None and (basis.ndim != 2 or basis.shape[0] != funnel.dimensions):
        raise InvalidRequest(f"the basis has shape {basis.shape}; it must have {funnel.dimensions} rows")


def _check_stretch(stretch: Stretch) -> None:
    if not stretch.tenant or not stretch.collection:
        raise ScopeMissing("the stretch names no tenant or no collection")
    if not OPEN_START <= stretch.start <= stretch.end <= OPEN_END:
        raise InvalidRequest(f"({stretch.start}, {stretch.end}] is no stretch of a record")


def _check_found(found: Candidates, scope: Scope) -> None:
    for candidate in (*found.dense, *found.lexical):
        if not _allowed(candidate, scope):
            raise MomentViolation(
                f"the index gave {candidate.item_id!r}, which the scope forbids; nothing was returned"
            )


def _allowed(candidate: Candidate, scope: Scope) -> bool:
    same = (candidate.tenant, candidate.collection) == (scope.tenant, scope.collection)
    return same and scope.moment in candidate.extent
