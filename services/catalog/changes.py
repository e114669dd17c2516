"""What was recorded in a stretch of a collection's record, as each reader applies it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from services.catalog.records import Generation, key
from services.catalog.tables import facts, passage_extents, passages, questions, statements, vectors, versions
from services.catalog.vectors import VectorFiles
from services.common.batches import batched
from services.common.moment import OPEN_END, OPEN_START, Extent, Span
from services.common.nodes.features import DOCUMENTS, FACTS, FeatureRow
from services.common.nodes.retriever import Changes, Close, Point, Target
from services.common.nodes.scope import Stretch

BATCH = 256
EMPTY = np.zeros((0, 0), np.float32)


def index_changes(tx: Connection, files: VectorFiles, generation: Generation, stretch: Stretch) -> Iterator[Changes]:
    """What a generation of the index has to apply, in batches."""
    for rows in batched(_points(tx, stretch), BATCH):
        yield _with_vectors(tx, files, generation, rows)
    closed = select(passage_extents.c.point_id, passage_extents.c.recorded_to).where(
        *_here(passage_extents, stretch), *_within(passage_extents.c.recorded_to, stretch)
    )
    for ends in batched(tx.execute(closed), BATCH * 4):
        yield Changes((), EMPTY, [Close(row.point_id, row.recorded_to) for row in ends])


def feature_changes(tx: Connection, view: str, stretch: Stretch) -> Iterator[list[FeatureRow]]:
    """What a feature view has to append, in batches."""
    query = (
        select(statements)
        .where(*_here(statements, stretch), statements.c.view == view, *_within(statements.c.created, stretch))
        .order_by(statements.c.created, statements.c.event)
    )
    describe = {FACTS: _fact_values, DOCUMENTS: _document_values}[view]
    for rows in batched(tx.execute(query).all(), BATCH * 4):
        said = describe(tx, {row.content for row in rows if row.content})
        yield [_feature(row, said.get(row.content, {})) for row in rows]


def _points(tx: Connection, stretch: Stretch) -> Iterator[Point]:
    query = (
        select(passage_extents, passages.c.embedded)
        .join(passages, passages.c.passage_id == passage_extents.c.passage_id)
        .where(*_here(passage_extents, stretch), *_within(passage_extents.c.recorded_from, stretch))
    )
    for row in tx.execute(query):
        extent = Extent(Span(row.valid_from, row.valid_to), Span(row.recorded_from, row.recorded_to))
        yield Point(row.point_id, Target.PASSAGES, row.passage_id, row.doc_id, extent, row.embedded, row.metadata)
    asked = select(questions).where(*_here(questions, stretch), *_within(questions.c.recorded_at, stretch))
    for row in tx.execute(asked):
        yield _question_point(row)


def _question_point(row: Row[Any]) -> Point:
    """A canonical question is visible at every valid time, from its first record on."""
    extent = Extent(Span(OPEN_START, OPEN_END), Span(row.recorded_at, OPEN_END))
    point = key("point", row.question_key)
    return Point(point, Target.QUESTIONS, row.question_key, row.question_id, extent, row.question, {})


def _with_vectors(tx: Connection, files: VectorFiles, generation: Generation, rows: list[Point]) -> Changes:
    items = {point.item_id for point in rows}
    query = select(vectors.c.item_id, vectors.c.file_id).where(
        vectors.c.item_id.in_(items), vectors.c.encoder == generation.encoder
    )
    found = dict(files.gather({row.item_id: row.file_id for row in tx.execute(query)}, generation.dimensions))
    return Changes(rows, np.stack([found[point.item_id] for point in rows]), ())


def _feature(row: Row[Any], values: dict[str, Any]) -> FeatureRow:
    """A row without content is the explicit "none": stated, but holding nothing."""
    return FeatureRow(row.entity, row.content is not None, row.event, row.created, {**values, "valid_to": row.until})


def _fact_values(tx: Connection, ids: set[str]) -> dict[str, dict[str, Any]]:
    return {
        row.fact_id: {
            "fact_id": row.fact_id,
            "answer": row.answer,
            "also_accepted": json.dumps(row.also_accepted, ensure_ascii=False),
            "source": row.source,
        }
        for row in tx.execute(select(facts).where(facts.c.fact_id.in_(ids)))
    }


def _document_values(tx: Connection, ids: set[str]) -> dict[str, dict[str, Any]]:
    return {
        row.version_id: {"version_id": row.version_id, "length": len(row.text), "dated": row.dated}
        for row in tx.execute(select(versions).where(versions.c.version_id.in_(ids)))
    }


def _here(table: Any, stretch: Stretch) -> list[Any]:
    return [table.c.tenant == stretch.tenant, table.c.collection == stretch.collection]


def _within(column: Any, stretch: Stretch) -> list[Any]:
    return [column > stretch.start, column <= stretch.end, column != OPEN_END]
