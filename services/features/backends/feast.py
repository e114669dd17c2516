"""Rows in the Parquet files of Feast's offline store, read at a moment through an index of our own.

Feast is loaded for nothing but applying the definitions and materializing. It reads only what pandas can date, the
years 1678 to 2261; rows outside lie in a sibling directory. So that it still knows what has held since before, every
early row is written for it once more, as the row that held when its span began.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.common.errors import Conflict
from services.common.moment import now
from services.common.nodes.features import FeatureRow
from services.common.nodes.scope import Stretch
from services.features.backends.feast_store import FeastStore
from services.features.backends.parquet import ParquetDirectory
from services.features.backends.rows import FEAST_SPAN, RowStore, at_event, integers, schema_of, to_table
from services.features.backends.watermarks import Watermarks
from services.features.index import PointInTimeIndex
from services.features.views import VIEWS, entity_key

Result = TypeVar("Result")


class FeastBackend:
    """One process owns the directory. Raises Conflict where another one does."""

    def __init__(self, directory: Path, online_redis: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Conflict(f"another features node has {directory} open; stop it, or use another home") from None
        self._directory = directory
        self._views = {view: _View(directory, view) for view in VIEWS}
        self._watermarks = Watermarks(directory / "watermarks.json")
        self._feast = FeastStore(directory, online_redis)
        self._writing = asyncio.Lock()
        self._materializing = asyncio.Lock()

    def latest(self, view: str, keys: Sequence[str], as_of: int, known_at: int) -> list[FeatureRow | None]:
        return self._views[view].latest(keys, as_of, known_at)

    def watermark(self, view: str, tenant: str, collection: str) -> int:
        return self._watermarks.get(view, tenant, collection)

    async def append(self, view: str, stretch: Stretch, batches: AsyncIterator[Sequence[FeatureRow]]) -> None:
        tables = [to_table(view, rows) async for rows in batches if rows]
        async with self._writing:
            await _uninterrupted(asyncio.to_thread(self._append, view, stretch, tables))

    def _append(self, view: str, stretch: Stretch, tables: list[pa.Table]) -> None:
        if tables:
            self._views[view].append(stretch, pa.concat_tables(tables))
        self._watermarks.advance(view, stretch.tenant, stretch.collection, stretch.end)
        if not self._materializing.locked():
            self._views[view].compact()

    async def erase(self, view: str, key: str) -> int:
        async with self._materializing, self._writing:
            removed = await _uninterrupted(asyncio.to_thread(self._remove, view, lambda held: held == key))
            await _uninterrupted(asyncio.to_thread(self._feast.erase, view, key))
        return removed

    async def drop(self, view: str, tenant: str, collection: str) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        prefix = entity_key(tenant, collection, "")
        async with self._materializing, self._writing:
            self._watermarks.forget(view, tenant, collection)
            await _uninterrupted(asyncio.to_thread(self._remove, view, lambda held: held.startswith(prefix)))

    def _remove(self, view: str, unwanted: Callable[[str], bool]) -> int:
        """Reads see the view as it was, then as it is read again from its files."""
        removed = self._views[view].remove(unwanted)
        self._views[view] = _View(self._directory, view)
        return removed

    async def materialize(self, view: str) -> int:
        async with self._materializing:
            async with self._writing:  # an append that began before may still compact away files Feast has listed
                reached = now()
            if self._views[view].known_to_feast():
                await self._feast.apply()
                await _uninterrupted(asyncio.to_thread(self._feast.materialize, view, reached))
        return reached

    async def prepare(self) -> None:
        async with self._materializing:
            await self._feast.apply()

    async def close(self) -> None:
        self._lock.close()


async def _uninterrupted(work: Awaitable[Result]) -> Result:
    """Wait for a thread's work even when cancelled, so that the locks held outlast it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class _View:
    """One view's files, rows and index."""

    def __init__(self, directory: Path, view: str) -> None:
        self._schema = schema_of(view)
        self._feast = ParquetDirectory(directory / "offline" / view, self._schema)
        self._beyond = ParquetDirectory(directory / "beyond" / view, self._schema)
        self._rows = RowStore(view)
        self._index = PointInTimeIndex()
        within = self._feast.read()
        self._add(within.filter(pa.array(integers(within, "event_us") >= FEAST_SPAN.start)))
        self._add(self._beyond.read())

    def latest(self, keys: Sequence[str], as_of: int, known_at: int) -> list[FeatureRow | None]:
        return self._rows.get(self._index.latest(keys, as_of, known_at))

    def known_to_feast(self) -> bool:
        """Whether there is any file for Feast to read; without one it fails."""
        return not self._feast.empty()

    def append(self, stretch: Stretch, table: pa.Table) -> None:
        """Durable when it returns. The index is ahead of the watermark until then, which no read can notice: all new
        rows are created after the watermark."""
        self._add(table)
        within = _in_feast_span(table)
        self._beyond.write(stretch, table.filter(pa.array(~within)))
        self._feast.write(stretch, pa.concat_tables([table.filter(pa.array(within)), self._held_at_start(table)]))

    def remove(self, unwanted: Callable[[str], bool]) -> int:
        """Take rows out of the files, by their entities' keys; memory still holds them."""

        def found(table: pa.Table) -> npt.NDArray[np.bool_]:
            keys = table.column("entity_key").to_pylist()
            return np.fromiter((unwanted(key) for key in keys), np.bool_, len(keys))

        return self._beyond.remove(found) + self._feast.remove(found)

    def compact(self) -> None:
        self._beyond.compact()
        self._feast.compact()

    def _add(self, table: pa.Table) -> None:
        if table.num_rows:
            keys = table.column("entity_key").to_pylist()
            self._index.add(keys, integers(table, "event_us"), integers(table, "created_us"), self._rows.add(table))

    def _held_at_start(self, table: pa.Table) -> pa.Table:
        """What early rows come to at the start of Feast's span, as known when each was created."""
        early = table.filter(pa.array((integers(table, "event_us") < FEAST_SPAN.start) & _created_in_feast_span(table)))
        changes = sorted(set(zip(early.column("entity_key").to_pylist(), integers(early, "created_us"), strict=True)))
        numbers = [int(self._index.latest([key], FEAST_SPAN.start, int(created))[0]) for key, created in changes]
        held = self._rows.table(numbers, self._schema)
        held = held.filter(pa.array(integers(held, "event_us") < FEAST_SPAN.start))
        return at_event(held, FEAST_SPAN.start)


def _created_in_feast_span(table: pa.Table) -> npt.NDArray[np.bool_]:
    return _within(integers(table, "created_us"))


def _in_feast_span(table: pa.Table) -> npt.NDArray[np.bool_]:
    return _within(integers(table, "event_us")) & _created_in_feast_span(table)


def _within(instants: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return (instants >= FEAST_SPAN.start) & (instants < FEAST_SPAN.end)
