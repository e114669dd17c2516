"""Feature rows as Arrow batches, in memory and in files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.common.moment import Span, parse_instant
from services.common.nodes.features import FeatureRow
from services.features.views import PRESENT, fields_of

FEAST_SPAN = Span(parse_instant("1678-01-01"), parse_instant("2262-01-01"))
"""What pandas' nanoseconds can hold, in whole years; Feast reads nothing else."""

_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_TIMESTAMP = pa.timestamp("us", tz="UTC")


def schema_of(view: str) -> pa.Schema:
    """The columns of a view's files. `event_us` and `created_us` are exact; `event_timestamp` and `created` are what
    Feast joins on."""
    head = [
        pa.field("entity_key", pa.string(), nullable=False),
        pa.field("event_timestamp", _TIMESTAMP, nullable=False),
        pa.field("created", _TIMESTAMP, nullable=False),
        pa.field("event_us", pa.int64(), nullable=False),
        pa.field("created_us", pa.int64(), nullable=False),
    ]
    return pa.schema([*head, *(pa.field(name, _TYPES[kind]) for name, kind in fields_of(view).items())])


def to_table(view: str, rows: Sequence[FeatureRow]) -> pa.Table:
    events, created = [row.event for row in rows], [row.created for row in rows]
    columns = {
        "entity_key": [row.entity for row in rows],
        "event_timestamp": pa.array(events, pa.int64()).cast(_TIMESTAMP),
        "created": pa.array(created, pa.int64()).cast(_TIMESTAMP),
        "event_us": events,
        "created_us": created,
        **{name: [row.values[name] for row in rows] for name in fields_of(view)},
    }
    return pa.table(columns, schema=schema_of(view))


def at_event(table: pa.Table, event: int) -> pa.Table:
    """The same rows, which Feast then finds at another event."""
    moved = pa.array(np.full(table.num_rows, event), pa.int64()).cast(_TIMESTAMP)
    return table.set_column(
        table.schema.get_field_index("event_timestamp"), table.schema.field("event_timestamp"), moved
    )


def integers(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """An int64 column without nulls."""
    column: npt.NDArray[np.int64] = table.column(name).to_numpy()
    return column


class RowStore:
    """Rows by number, in the batches they came in. Grows only; reads need no lock while one writer adds."""

    def __init__(self, view: str) -> None:
        self._fields = tuple(fields_of(view))
        self._batches: list[pa.RecordBatch] = []
        self._starts = np.zeros(1, np.int64)

    def add(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """The numbers the rows got, rising."""
        first = int(self._starts[-1])
        batches = table.combine_chunks().to_batches()
        self._batches += batches
        ends = first + np.cumsum([batch.num_rows for batch in batches], dtype=np.int64)
        self._starts = np.concatenate((self._starts, ends))
        return np.arange(first, int(self._starts[-1]))

    def get(self, numbers: npt.NDArray[np.int64]) -> list[FeatureRow | None]:
        """The rows, None for a number below 0."""
        places = np.searchsorted(self._starts, numbers, "right") - 1
        offsets = numbers - self._starts[places]
        return [
            None if number < 0 else self._row(self._batches[place], offset)
            for number, place, offset in zip(numbers.tolist(), places.tolist(), offsets.tolist(), strict=True)
        ]

    def table(self, numbers: Iterable[int], schema: pa.Schema) -> pa.Table:
        """The rows as they were added, in one table."""
        chosen = np.fromiter(numbers, np.int64)
        places = np.searchsorted(self._starts, chosen, "right") - 1
        picked = [
            self._batches[place].slice(int(number - self._starts[place]), 1)
            for number, place in zip(chosen, places, strict=True)
        ]
        return pa.Table.from_batches(picked, schema)

    def _row(self, batch: pa.RecordBatch, at: int) -> FeatureRow:
        values = {name: batch.column(name)[at].as_py() for name in self._fields}
        event, created = batch.column("event_us")[at].as_py(), batch.column("created_us")[at].as_py()
        return FeatureRow(batch.column("entity_key")[at].as_py(), values[PRESENT], event, created, values)
