"""The rows of a stretch on their way into a view's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.common.nodes.scope import Stretch
from services.features.backends.parquet import stretch_name
from services.features.backends.rows import at_event, integers, to_table
from services.features.backends.store import ViewStore
from services.features.span import FEAST_SPAN


class Pending:
    """The rows of a stretch in files that nobody sees before all of them are written."""

    def __init__(self, store: ViewStore, stretch: Stretch) -> None:
        self.store, self._stretch = store, stretch
        self._within: list[Path] = []
        self._beyond: list[Path] = []
        self._early: list[pa.Table] = []
        self.keys: set[str] = set()

    def add(self, table: pa.Table) -> None:
        self.keys.update(table.column("entity_key").unique().to_pylist())
        within = _in_feast_span(table)
        name = stretch_name(self._stretch, str(len(self._within) + len(self._beyond)))
        for files, staged, chosen in (
            (self.store.within, self._within, within),
            (self.store.beyond, self._beyond, ~within),
        ):
            if (path := files.stage(name, [table.filter(pa.array(chosen))])) is not None:
                staged.append(path)
        # A row that moved to the start of the span would outlive its ttl.
        if not self.store.view.ttl and (early := table.filter(pa.array(_early(table)))).num_rows:
            self._early.append(early.select(["entity_key", "created_us"]))

    def show(self) -> None:
        """Durable when it returns. The index is ahead of the watermark until that moves, which no read can notice: all
        new rows are created after the watermark."""
        store = self.store
        store.add([*store.within.show(self._within), *store.beyond.show(self._beyond)])
        if self._early and (staged := store.within.stage(stretch_name(self._stretch, "held"), [self._held_at_start()])):
            store.add(store.within.show([staged]))

    def discard(self) -> None:
        """Remove what was not shown."""
        for path in (*self._within, *self._beyond):
            path.unlink(missing_ok=True)

    def _held_at_start(self) -> pa.Table:
        """What early rows come to at the start of Feast's span, as known when each was created."""
        early = pa.concat_tables(self._early).group_by(["entity_key", "created_us"]).aggregate([])
        keys, created = early.column("entity_key").to_pylist(), integers(early, "created_us")
        start = np.full(len(keys), FEAST_SPAN.start)
        rows = [row for row in self.store.latest(keys, start, created) if row and row.event < FEAST_SPAN.start]
        return at_event(to_table(self.store.view, rows), FEAST_SPAN.start)


def _early(table: pa.Table) -> npt.NDArray[np.bool_]:
    return (integers(table, "event_us") < FEAST_SPAN.start) & _within(integers(table, "created_us"))


def _in_feast_span(table: pa.Table) -> npt.NDArray[np.bool_]:
    return _within(integers(table, "event_us")) & _within(integers(table, "created_us"))


def _within(instants: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return (instants >= FEAST_SPAN.start) & (instants < FEAST_SPAN.end)
