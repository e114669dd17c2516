"""What was recorded in a stretch of a collection's record, as each reader applies it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, func, select

from services.catalog.erasing import under_way
from services.catalog.records import Generation, key
from services.catalog.tables import facts, passage_extents, passages, questions, statements, vectors, versions
from services.catalog.usage import usage_changes
from services.catalog.vectors import VectorFiles
from services.common.batches import batched
from services.common.errors import Unavailable
from services.common.moment import OPEN_END, OPEN_START, Extent, Span
from services.common.nodes.features import DOCUMENTS, FACTS, FeatureRow
from services.common.nodes.retriever import Changes, Close, Point, Target
from services.common.nodes.scope import Stretch
from services.common.nodes.usage import USAGE

BATCH = 256
EMPTY = np.zeros((0, 0), np.float32)


def index_changes(tx: Connection, files: VectorFiles, generation: Generation, stretch: Stretch) -> Iterator[Changes]:
    """What a generation of the index has to apply, in batches."""
    for rows in batched(_points(tx, stretch), BATCH):
        yield _with_vectors(tx, files, generation, rows)
    closed = select(passage_extents.c.point_id, passage_extents.c.recorded_to).where(
        *_kept(tx, stretch), *_within(passage_extents.c.recorded_to, stretch)
    )
    for ends in batched(tx.execute(closed), BATCH * 4):
        yield Changes((), EMPTY, [Close(row.point_id, row.recorded_to) for row in ends])


def feature_changes(tx: Connection, view: str, stretch: Stretch) -> Iterator[list[FeatureRow]]:
    """What a feature view has to append, in batches."""
    if view == USAGE:
        yield from usage_changes(tx, stretch)
        return
    query = (
        select(statements)
        .where(*_here(statements, stretch), statements.c.view == view, *_within(statements.c.created, stretch))
        .order_by(statements.c.created, statements.c.event)
    )
    describe = {FACTS: _fact_values, DOCUMENTS: _document_values}[view]
    for rows in batched(tx.execute(query), BATCH * 2):
        yield [
            FeatureRow(row.entity, row.content is not None, row.event, row.created, {**values, "valid_to": row.until})
            for row, values in zip(rows, describe(tx, stretch, rows), strict=True)
        ]


def _points(tx: Connection, stretch: Stretch) -> Iterator[Point]:
    query = (
        select(passage_extents, passages.c.embedded)
        .join(passages, passages.c.passage_id == passage_extents.c.passage_id)
        .where(*_kept(tx, stretch), *_within(passage_extents.c.recorded_from, stretch))
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
    known = {row.item_id: row.file_id for row in tx.execute(query)}
    if len(known) < len(items):
        raise Unavailable(f"{len(items) - len(known)} passages have no vector of {generation.encoder} yet")
    found = dict(files.gather(known, generation.dimensions))
    return Changes(rows, np.stack([found[point.item_id] for point in rows]), ())


def _fact_values(tx: Connection, _: Stretch, rows: list[Row[Any]]) -> list[dict[str, Any]]:
    said = {
        row.fact_id: {
            "fact_id": row.fact_id,
            "question": row.question,
            "answer": row.answer,
            "also_accepted": json.dumps(row.also_accepted, ensure_ascii=False),
            "source": row.source,
        }
        for row in tx.execute(
            select(facts, questions.c.question)
            .join(questions, questions.c.question_key == facts.c.question_key)
            .where(facts.c.fact_id.in_({row.content for row in rows}))
        )
    }
    return [said.get(row.content, {}) for row in rows]


def _document_values(tx: Connection, stretch: Stretch, rows: list[Row[Any]]) -> list[dict[str, Any]]:
    said = {
        row.version_id: {
            "version_id": row.version_id,
            "length_chars": row.length,
            "dated": row.dated,
            "authority": _authority(row.metadata),
        }
        for row in tx.execute(
            select(
                versions.c.version_id,
                func.length(versions.c.text).label("length"),
                versions.c.dated,
                versions.c.metadata,
            ).where(versions.c.version_id.in_({row.content for row in rows}))
        )
    }
    revisions = _revisions(tx, stretch, rows)
    return [
        {**said.get(row.content, {}), "valid_from_us": row.event, "versions": revisions[row.entity, row.created]}
        for row in rows
    ]


def _authority(metadata: Mapping[str, str]) -> float:
    """What the metadata say under `authority`, a number in [0, 1]; 0 where they say none."""
    try:
        said = float(metadata.get("authority", 0))
    except ValueError:
        return 0.0
    return said if 0 <= said <= 1 else 0.0


def _revisions(tx: Connection, stretch: Stretch, rows: list[Row[Any]]) -> dict[tuple[str, int], int]:
    """How many versions each document had had by each record time."""
    query = (
        select(statements.c.entity, statements.c.created, statements.c.content)
        .where(
            *_here(statements, stretch),
            statements.c.view == DOCUMENTS,
            statements.c.entity.in_({row.entity for row in rows}),
        )
        .order_by(statements.c.created)
    )
    seen: dict[str, set[str]] = {}
    counts: dict[tuple[str, int], int] = {}
    for entity, created, content in tx.execute(query):
        seen.setdefault(entity, set()).update([content] if content else [])
        counts[entity, created] = len(seen[entity])
    return counts


def _kept(tx: Connection, stretch: Stretch) -> list[Any]:
    """Of the stretch's collection, and of no document that is being erased: it is sent to no index any more."""
    return [
        *_here(passage_extents, stretch),
        passage_extents.c.doc_id.not_in(under_way(tx, stretch.tenant, stretch.collection)),
    ]


def _here(table: Any, stretch: Stretch) -> list[Any]:
    return [table.c.tenant == stretch.tenant, table.c.collection == stretch.collection]


def _within(column: Any, stretch: Stretch) -> list[Any]:
    return [column > stretch.start, column <= stretch.end, column != OPEN_END]
