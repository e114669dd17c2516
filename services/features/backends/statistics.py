"""What the rows of a view hold, field by field, counted part by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from services.common.nodes.features import FieldState, Limits
from services.features.views import PRESENT, View


def undescribed(view: View) -> list[FieldState]:
    """The fields with their limits, nothing counted yet."""
    return [
        FieldState(name, kind.__name__, limits=view.limits.get(name, Limits())) for name, kind in view.fields.items()
    ]


def described(view: View, tables: Iterable[pa.Table]) -> list[FieldState]:
    """The fields over the rows in which something holds; rows of gaps are not counted."""
    states = undescribed(view)
    for table in tables:
        if PRESENT in view.fields:
            table = table.filter(pc.fill_null(table.column(PRESENT), True))
        if table.num_rows:
            states = [_with(state, table.column(state.name)) for state in states]
    return states


def _with(state: FieldState, column: pa.ChunkedArray) -> FieldState:
    nulls = pc.sum(pc.is_null(column, nan_is_null=True)).as_py()
    empty, numbers = 0, column
    if pa.types.is_string(column.type):
        numbers = pc.utf8_length(column)
        empty = pc.sum(pc.equal(numbers, 0)).as_py() or 0
    elif pa.types.is_boolean(column.type):
        numbers = column.cast(pa.int8())
    elif pa.types.is_floating(column.type):
        numbers = column.filter(pc.invert(pc.is_nan(column)))
    counted = replace(state, rows=state.rows + len(column), nulls=state.nulls + nulls, empty=state.empty + empty)
    if nulls == len(column):
        return counted
    bounds, first = pc.min_max(numbers), state.rows == state.nulls
    least, most = float(bounds["min"].as_py()), float(bounds["max"].as_py())
    if first:
        return replace(counted, least=least, most=most)
    return replace(counted, least=min(state.least, least), most=max(state.most, most))
