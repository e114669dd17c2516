"""Rows in a dictionary, searched naively: the oracle of the other backends. Nothing survives the process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence

from services.common.moment import OPEN_START, now
from services.common.nodes.features import FeatureRow, Value, ViewState
from services.common.nodes.scope import Stretch
from services.features.definitions import plan
from services.features.views import VIEWS, View, entity_key, find_view, tenant_prefix


class MemoryBackend:
    def __init__(self) -> None:
        self._rows: defaultdict[tuple[str, str], list[FeatureRow]] = defaultdict(list)
        self._watermarks: dict[tuple[str, str, str], int] = {}
        self._materialized: dict[str, int] = {}

    async def view(self, name: str) -> View:
        return find_view(VIEWS, name)

    def names(self) -> list[str]:
        return sorted(VIEWS)

    def latest(self, view: str, keys: Sequence[str], as_of: int, known_at: int) -> list[FeatureRow | None]:
        return [self._latest(view, key, as_of, known_at) for key in keys]

    def _latest(self, view: str, key: str, as_of: int, known_at: int) -> FeatureRow | None:
        seen = [row for row in self._rows.get((view, key), ()) if row.event <= as_of and row.created <= known_at]
        return max(seen, key=lambda row: (row.event, row.created), default=None)

    async def training(self, view: str, asked: Sequence[tuple[str, int]]) -> list[Mapping[str, Value] | None]:
        held = [self._latest(view, key, when, when) for key, when in asked]
        return [row.values if row else None for row in held]

    def watermark(self, view: str, tenant: str, collection: str) -> int:
        return self._watermarks.get((view, tenant, collection), OPEN_START)

    async def append(self, view: str, stretch: Stretch, batches: AsyncIterator[Sequence[FeatureRow]]) -> None:
        new = [row async for rows in batches for row in rows]
        for row in new:
            self._rows[view, row.entity].append(row)
        self._watermarks[view, stretch.tenant, stretch.collection] = stretch.end

    async def erase(self, view: str, key: str) -> int:
        return len(self._rows.pop((view, key), ()))

    async def drop(self, view: str, tenant: str, collection: str) -> None:
        self._watermarks.pop((view, tenant, collection), None)
        for held in [
            held for held in self._rows if held[0] == view and held[1].startswith(entity_key(tenant, collection, ""))
        ]:
            del self._rows[held]

    async def materialize(self, view: str) -> int:
        self._materialized[view] = now()
        return self._materialized[view]

    def materialized(self, view: str) -> int:
        return self._materialized.get(view, OPEN_START)

    async def online(self, view: str, keys: Sequence[str]) -> list[Mapping[str, Value] | None]:
        return await self.training(view, [(key, self.materialized(view)) for key in keys])

    async def apply(self, dry_run: bool) -> list[str]:
        return plan(VIEWS, VIEWS).lines()

    async def describe(self, view: str, tenant: str, statistics: bool) -> ViewState:
        from services.features.backends.rows import to_table
        from services.features.backends.statistics import described

        rows = [row for (of, _), held in self._rows.items() if of == view for row in held]
        mine = [row for row in rows if row.entity.startswith(tenant_prefix(tenant))] if statistics else []
        marks = {name: mark for (of, whose, name), mark in self._watermarks.items() if (of, whose) == (view, tenant)}
        fields = described(VIEWS[view], [to_table(VIEWS[view], mine)])
        return ViewState(view, VIEWS[view].ttl, len(rows), 0, marks, self.materialized(view), fields)

    async def prepare(self) -> None:
        pass

    async def close(self) -> None:
        pass
