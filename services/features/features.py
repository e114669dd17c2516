"""The features node: entities + moment → values."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence

from services.common.errors import BehindWatermark, Conflict, InvalidRequest, ScopeMissing
from services.common.moment import OPEN_END, OPEN_START, format_instant
from services.common.nodes.features import FeatureRow, Value, ViewState
from services.common.nodes.scope import Scope, Stretch
from services.common.rpc.deadlines import remaining
from services.features.backends import open_backend
from services.features.backends.base import Backend
from services.features.settings import FeaturesSettings
from services.features.span import FEAST_SPAN
from services.features.views import PRESENT, View, entity_key, stored_row

_REPLY_SECONDS = 0.05
"""What is kept of a deadline to say that the watermark was not reached."""


class PointInTimeFeatures:
    """Implements services.common.nodes.features.Features over a backend."""

    def __init__(self, backend: Backend, wait_seconds: float = 5.0) -> None:
        self._backend = backend
        self._wait_seconds = wait_seconds
        self._advanced = asyncio.Condition()
        self._appending: defaultdict[tuple[str, str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def read(self, scope: Scope, view: str, entities: Sequence[str], online: bool = False) -> list[FeatureRow]:
        await self._backend.view(view)
        keys = [entity_key(scope.tenant, scope.collection, entity) for entity in entities]
        if online:
            self._not_before_online(view, scope)
            return _without_times(entities, await self._backend.online(view, keys))
        await self._reach(view, scope)
        rows = self._backend.latest(view, keys, scope.moment.as_of, scope.moment.known_at)
        return [_named(entity, row) for entity, row in zip(entities, rows, strict=True)]

    async def append(self, view: str, stretch: Stretch, batches: AsyncIterator[Sequence[FeatureRow]]) -> int:
        definition = await self._backend.view(view)
        _check(stretch)
        where = (view, stretch.tenant, stretch.collection)
        async with self._appending[where]:
            applied = self._backend.watermark(*where)
            if stretch.start > applied:
                raise Conflict(_gap(view, stretch, applied))
            rows = _stored(definition, stretch, applied, batches)
            if stretch.end > applied:
                try:
                    await self._backend.append(view, stretch, rows)
                finally:
                    await self._announce()
            else:
                async for _ in rows:
                    pass
            return self._backend.watermark(*where)

    async def position(self, view: str, tenant: str, collection: str) -> int:
        await self._backend.view(view)
        return self._backend.watermark(view, tenant, collection)

    async def materialize(self, view: str) -> int:
        await self._backend.view(view)
        return await self._backend.materialize(view)

    async def erase(self, view: str, tenant: str, collection: str, entity: str) -> int:
        await self._backend.view(view)
        if not tenant or not collection or not entity:
            raise ScopeMissing("the request names no tenant, no collection or no entity")
        async with self._appending[view, tenant, collection]:
            return await self._backend.erase(view, entity_key(tenant, collection, entity))

    async def drop(self, view: str, tenant: str, collection: str) -> None:
        await self._backend.view(view)
        if not tenant or not collection:
            raise ScopeMissing("the request names no tenant or no collection")
        async with self._appending[view, tenant, collection]:
            await self._backend.drop(view, tenant, collection)

    async def training(
        self, tenant: str, collection: str, view: str, asked: Sequence[tuple[str, int]]
    ) -> list[FeatureRow]:
        await self._backend.view(view)
        if not tenant or not collection:
            raise ScopeMissing("the request names no tenant or no collection")
        for entity, when in asked:
            if when not in FEAST_SPAN:
                raise InvalidRequest(f"{entity!r}: Feast joins in the years 1678 to 2261, not at {when}")
        keys = [(entity_key(tenant, collection, entity), when) for entity, when in asked]
        found = await self._backend.training(view, keys)
        return _without_times([entity for entity, _ in asked], found)

    async def apply(self, dry_run: bool) -> list[str]:
        return await self._backend.apply(dry_run)

    async def describe(self, tenant: str, view: str = "", statistics: bool = False) -> list[ViewState]:
        if not tenant:
            raise ScopeMissing("the request names no tenant")
        names = [(await self._backend.view(view)).name] if view else self._backend.names()
        return [await self._backend.describe(name, tenant, statistics) for name in names]

    async def prepare(self) -> None:
        """Do in the background what reads do not need, such as applying the definitions."""
        await self._backend.prepare()

    async def _announce(self) -> None:
        async with self._advanced:
            self._advanced.notify_all()

    def _not_before_online(self, view: str, scope: Scope) -> None:
        """The online store may have whatever had happened and was on record when it was last brought up to date."""
        reached = self._backend.materialized(view)
        if reached == OPEN_START:
            raise Conflict(f"{view} was not materialized since the node started; run `almanac features materialize`")
        recorded = min(reached, self._backend.watermark(view, scope.tenant, scope.collection))
        if scope.moment.as_of < reached or scope.moment.known_at < recorded:
            raise Conflict(
                f"the online store knows {view} at {format_instant(reached)} and not before; read it at the moment"
            )

    async def _reach(self, view: str, scope: Scope) -> None:
        """Wait for the watermark to reach known_at, as long as the setting and the deadline allow."""
        known_at = scope.moment.known_at

        def reached() -> bool:
            return self._backend.watermark(view, scope.tenant, scope.collection) >= known_at

        if reached():
            return
        seconds = min(self._wait_seconds, remaining(self._wait_seconds + _REPLY_SECONDS) - _REPLY_SECONDS)
        try:
            async with asyncio.timeout(seconds), self._advanced:
                await self._advanced.wait_for(reached)
        except TimeoutError:
            raise BehindWatermark(
                f"{view} of {scope.collection!r} is not yet applied up to {format_instant(known_at)}; "
                "ask again, or leave known_at out"
            ) from None


async def _stored(
    view: View, stretch: Stretch, applied: int, batches: AsyncIterator[Sequence[FeatureRow]]
) -> AsyncIterator[Sequence[FeatureRow]]:
    """The batches as they are stored, without the rows applied before."""
    async for rows in batches:
        for row in rows:
            if not stretch.start < row.created <= stretch.end:
                raise InvalidRequest(f"{row.entity!r}: a row created at {row.created} lies outside its stretch")
        new = [row for row in rows if row.created > applied]
        yield [stored_row(view, entity_key(stretch.tenant, stretch.collection, row.entity), row) for row in new]


def _named(entity: str, row: FeatureRow | None) -> FeatureRow:
    if row is None or not row.found:
        return FeatureRow(entity)
    return FeatureRow(entity, True, row.event, row.created, row.values)


def _without_times(entities: Sequence[str], found: Sequence[Mapping[str, Value] | None]) -> list[FeatureRow]:
    return [
        FeatureRow(entity, True, values=values) if values and values.get(PRESENT, True) else FeatureRow(entity)
        for entity, values in zip(entities, found, strict=True)
    ]


def _check(stretch: Stretch) -> None:
    if not OPEN_START <= stretch.start <= stretch.end <= OPEN_END:
        raise InvalidRequest(f"the stretch ({stretch.start}, {stretch.end}] is none, or outside the years 1 to 9999")
    entity_key(stretch.tenant, stretch.collection, "")


def _gap(view: str, stretch: Stretch, applied: int) -> str:
    return (
        f"{view} of {stretch.collection!r} is applied up to {applied}, and the stretch begins at {stretch.start}: "
        "append what lies between first"
    )


def build(settings: FeaturesSettings) -> PointInTimeFeatures:
    """The node as the settings describe it."""
    return PointInTimeFeatures(open_backend(settings), settings.features_wait_seconds)
