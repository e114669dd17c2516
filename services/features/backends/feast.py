"""Rows in the Parquet files of Feast's offline store, read at a moment through an index of our own.

Feast is loaded for nothing but applying the definitions, materializing and its own historical join. It reads only what
pandas can date, the years 1678 to 2261. So that it still knows what has held since before, every early row is written
for it once more, as the row that held when its span began.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from services.common.errors import Conflict
from services.common.moment import OPEN_START, now
from services.common.nodes.features import FeatureRow, Value, ViewState
from services.common.nodes.scope import Stretch
from services.features.backends.feast_store import FeastStore
from services.features.backends.pending import Pending
from services.features.backends.rows import to_table
from services.features.backends.statistics import described, undescribed
from services.features.backends.store import BUFFER_ROWS, ViewStore
from services.features.backends.watermarks import Watermarks
from services.features.definitions import read_views
from services.features.views import VIEWS, View, entity_key, find_view, tenant_prefix

Result = TypeVar("Result")

_MOST_CHANGED = 100_000
"""Of more entities Feast materializes all."""


class FeastBackend:
    """One process owns the directory. Raises Conflict where another one does."""

    def __init__(self, directory: Path, online_redis: str = "", buffer_rows: int = BUFFER_ROWS) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Conflict(f"another features node has {directory} open; stop it, or use another home") from None
        self._directory = directory
        self._buffer_rows = buffer_rows
        self._watermarks = Watermarks(directory / "watermarks.json")
        self._feast = FeastStore(directory, online_redis)
        self._writing = asyncio.Lock()
        self._rearranging = asyncio.Lock()
        """Held while files that are there go or are read by Feast, neither of which may disturb the other."""
        self._materialized: dict[str, int] = {}
        self._changed: dict[str, set[str]] = {}
        """Entities with new rows, of views that have been materialized by this process."""
        self._merging: dict[str, asyncio.Task[None]] = {}
        self._preparing: asyncio.Task[None] | None = None
        self._views: Mapping[str, View] = {}
        self._stores: Mapping[str, ViewStore] = {}
        for left in directory.glob("*/*/.*.tmp"):
            left.unlink()
        self._open_views({**VIEWS, **read_views(directory)})

    def _open_views(self, views: Mapping[str, View]) -> None:
        self._stores = {
            name: self._stores[name]
            if view == self._views.get(name)  # whatever its limits
            else ViewStore(self._directory, view, self._buffer_rows)
            for name, view in views.items()
        }
        self._views = views

    async def view(self, name: str) -> View:
        if name not in self._views and self._preparing is not None:
            await asyncio.shield(self._preparing)
        return find_view(self._views, name)

    def names(self) -> list[str]:
        return sorted(self._views)

    def latest(self, view: str, keys: Sequence[str], as_of: int, known_at: int) -> list[FeatureRow | None]:
        return self._stores[view].latest(keys, as_of, known_at)

    def watermark(self, view: str, tenant: str, collection: str) -> int:
        return self._watermarks.get(view, tenant, collection)

    async def append(self, view: str, stretch: Stretch, batches: AsyncIterator[Sequence[FeatureRow]]) -> None:
        pending = Pending(self._stores[view], stretch)
        try:
            async for table in self._tables(view, batches):
                await _uninterrupted(asyncio.to_thread(pending.add, table))
            async with self._writing:
                await _uninterrupted(asyncio.to_thread(self._commit, view, stretch, pending))
        finally:
            pending.discard()
        self._merge_soon(view)

    async def _tables(self, view: str, batches: AsyncIterator[Sequence[FeatureRow]]) -> AsyncIterator[pa.Table]:
        """The rows in tables of a bounded size."""
        tables: list[pa.Table] = []
        async for rows in batches:
            tables += [to_table(self._views[view], rows)] if rows else []
            if sum(table.num_rows for table in tables) >= self._buffer_rows:
                yield pa.concat_tables(tables)
                tables = []
        if tables:
            yield pa.concat_tables(tables)

    def _commit(self, view: str, stretch: Stretch, pending: Pending) -> None:
        if pending.store is not self._stores[view]:
            raise Conflict(f"the definition of {view} changed while rows were appended; append them again")
        pending.show()
        if view in self._changed and len(self._changed[view]) <= _MOST_CHANGED:
            self._changed[view] |= pending.keys
        self._watermarks.advance(view, stretch.tenant, stretch.collection, stretch.end)

    def _merge_soon(self, view: str) -> None:
        if view not in self._merging and self._stores[view].due():
            task = self._merging[view] = asyncio.create_task(self._merge(view))
            task.add_done_callback(lambda _: self._merging.pop(view, None))

    async def _merge(self, view: str) -> None:
        """Appends and reads go on meanwhile, but for the moment in which the files change places."""
        try:
            while True:
                async with self._rearranging:
                    store = self._stores[view]
                    if (due := store.due()) is None:
                        return
                    staged = await _uninterrupted(asyncio.to_thread(store.merge, *due))
                    async with self._writing:
                        await _uninterrupted(asyncio.to_thread(store.commit, due[0], staged, due[1]))
        except Exception:
            structlog.get_logger().exception("merge_failed", view=view)

    async def erase(self, view: str, key: str) -> int:
        async with self._rearranging, self._writing:
            removed = await _uninterrupted(
                asyncio.to_thread(self._stores[view].remove, lambda keys: pc.equal(keys, key))
            )
            await _uninterrupted(asyncio.to_thread(self._feast.erase, view, key))
        return removed

    async def drop(self, view: str, tenant: str, collection: str) -> None:
        prefix = entity_key(tenant, collection, "")
        async with self._rearranging, self._writing:
            self._watermarks.forget(view, tenant, collection)
            store = self._stores[view]
            await _uninterrupted(asyncio.to_thread(store.remove, lambda keys: pc.starts_with(keys, prefix)))
            await _uninterrupted(asyncio.to_thread(self._feast.drop, self._views[view], prefix))

    async def materialize(self, view: str) -> int:
        """The first time in a process through Feast, all of it; then only what has changed since."""
        await self.prepare()
        async with self._rearranging:
            reached, since = now(), self._materialized.get(view)
            changed, self._changed[view] = self._changed.get(view, set()), set()
            try:
                if since is None or len(changed) > _MOST_CHANGED:
                    await _uninterrupted(asyncio.to_thread(self._materialize_all, view, reached))
                else:
                    await _uninterrupted(asyncio.to_thread(self._materialize, view, changed, since, reached))
            except BaseException:
                self._changed[view] |= changed
                raise
            self._materialized[view] = reached
        return reached

    def _materialize_all(self, view: str, until: int) -> None:
        if self._stores[view].known_to_feast():
            self._feast.materialize(view, until)

    def _materialize(self, view: str, changed: set[str], since: int, until: int) -> None:
        store = self._stores[view]
        keys = sorted(changed | store.begun(since, until))
        rows = store.latest(keys, until, until)
        self._feast.write(store.view, [row for row in rows if row is not None])

    def materialized(self, view: str) -> int:
        return self._materialized.get(view, OPEN_START)

    async def online(self, view: str, keys: Sequence[str]) -> list[Mapping[str, Value] | None]:
        return await asyncio.to_thread(self._feast.online, self._views[view], keys)

    async def describe(self, view: str, tenant: str, statistics: bool) -> ViewState:
        definition, store = self._views[view], self._stores[view]
        marks = self._watermarks.of(view, tenant)
        fields = undescribed(definition)
        if statistics:
            async with self._rearranging:
                tables = store.tables_of(tenant_prefix(tenant))
                fields = await _uninterrupted(asyncio.to_thread(described, definition, tables))
        size = await asyncio.to_thread(store.size)
        return ViewState(view, definition.ttl, len(store), size, marks, self.materialized(view), fields)

    async def training(self, view: str, asked: Sequence[tuple[str, int]]) -> list[Mapping[str, Value] | None]:
        await self.prepare()
        async with self._rearranging:
            if not self._stores[view].known_to_feast():
                return [None] * len(asked)
            return await _uninterrupted(asyncio.to_thread(self._feast.historical, self._views[view], asked))

    async def prepare(self) -> None:
        if self._preparing is None or (self._preparing.done() and not _succeeded(self._preparing)):
            self._preparing = asyncio.create_task(self._prepare())
        await asyncio.shield(self._preparing)

    async def apply(self, dry_run: bool) -> list[str]:
        changes = await self._feast.plan()
        if not dry_run:
            if self._preparing is not None:
                await asyncio.wait([self._preparing])
                self._preparing = None
            await self.prepare()
        return changes

    async def _prepare(self) -> None:
        async with self._rearranging:
            await self._feast.apply()
            views = {**VIEWS, **read_views(self._directory)}
            async with self._writing:
                await _uninterrupted(asyncio.to_thread(self._open_views, views))

    async def close(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        tasks = [*self._merging.values(), *([self._preparing] if self._preparing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lock.close()


def _succeeded(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is None


async def _uninterrupted(work: Awaitable[Result]) -> Result:
    """Wait for a thread's work even when cancelled, so that the locks held outlast it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
