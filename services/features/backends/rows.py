"""Feature rows as Arrow batches, in memory and in files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.common.nodes.features import FeatureRow
from services.features.index import Ints
from services.features.views import PRESENT, View

TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_TIMESTAMP = pa.timestamp("us", tz="UTC")


def schema_of(view: View) -> pa.Schema:
    """The columns of a view's files. `event_us` and `created_us` are exact; `event_timestamp` and `created` are what
    Feast joins on."""
    head = [
        pa.field("entity_key", pa.string(), nullable=False),
        pa.field("event_timestamp", _TIMESTAMP, nullable=False),
        pa.field("created", _TIMESTAMP, nullable=False),
        pa.field("event_us", pa.int64(), nullable=False),
        pa.field("created_us", pa.int64(), nullable=False),
    ]
    return pa.schema([*head, *(pa.field(name, TYPES[kind]) for name, kind in view.fields.items())])


def to_table(view: View, rows: Sequence[FeatureRow]) -> pa.Table:
    events, created = [row.event for row in rows], [row.created for row in rows]
    columns = {
        "entity_key": [row.entity for row in rows],
        "event_timestamp": pa.array(events, pa.int64()).cast(_TIMESTAMP),
        "created": pa.array(created, pa.int64()).cast(_TIMESTAMP),
        "event_us": events,
        "created_us": created,
        **{name: [row.values[name] for row in rows] for name in view.fields},
    }
    return pa.table(columns, schema=schema_of(view))


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in the columns of a view: a file written by others needs no more than Feast's timestamps, and one from
    before a field was defined has nulls for it."""
    if table.schema.equals(schema):
        return table
    held = set(table.column_names)
    exact = {"event_us": "event_timestamp", "created_us": "created"}
    columns = []
    for field in schema:
        name = field.name if field.name in held else exact.get(field.name, "")
        column = table.column(name) if name in held else pa.nulls(table.num_rows, field.type)
        stamped = pa.types.is_timestamp(column.type) and field.name in exact
        columns.append((column.cast(_TIMESTAMP) if stamped else column).cast(field.type))
    return pa.table(columns, schema=schema)


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

    def __init__(self, view: View) -> None:
        self._view = view
        self._batches: list[pa.RecordBatch] = []
        self._columns: list[dict[str, pa.Array]] = []
        self._starts = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def add(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """The numbers the rows got, rising."""
        return self.add_batches(table.combine_chunks().to_batches())

    def add_batches(self, batches: Sequence[pa.RecordBatch]) -> npt.NDArray[np.int64]:
        first = len(self)
        self._batches += batches
        self._columns += [dict(zip(batch.schema.names, batch.columns, strict=True)) for batch in batches]
        ends = first + np.cumsum([batch.num_rows for batch in batches], dtype=np.int64)
        self._starts = np.concatenate((self._starts, ends))
        return np.arange(first, len(self))

    def get(self, numbers: Ints, events: Ints, created: Ints) -> list[FeatureRow]:
        """The rows of these numbers, whose events and created times are known."""
        places = np.searchsorted(self._starts, numbers, "right") - 1
        offsets = numbers - self._starts[places]
        return [
            self._row(self._columns[place], offset, event, when)
            for place, offset, event, when in zip(
                places.tolist(), offsets.tolist(), events.tolist(), created.tolist(), strict=True
            )
        ]

    def slice(self, start: int, stop: int) -> list[pa.RecordBatch]:
        """The rows from `start` to before `stop`, not copied."""
        found = []
        for place in range(int(np.searchsorted(self._starts, start, "right")) - 1, len(self._batches)):
            first = int(self._starts[place])
            if first >= stop:
                break
            low, high = max(start - first, 0), min(stop - first, self._batches[place].num_rows)
            found.append(self._batches[place].slice(low, high - low))
        return found

    def _row(self, columns: dict[str, pa.Array], at: int, event: int, created: int) -> FeatureRow:
        values = {}
        for name, kind in self._view.fields.items():
            value = columns[name][at].as_py()
            values[name] = kind() if value is None else value
        return FeatureRow(columns["entity_key"][at].as_py(), bool(values.get(PRESENT, True)), event, created, values)
