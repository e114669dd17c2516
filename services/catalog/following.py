"""What a generation of the index still needs: stretches of a bearable size, and vectors of its encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, exists, func, insert, select

from services.catalog.commit import VectorFile
from services.catalog.erasing import under_way
from services.catalog.inserts import insert_new
from services.catalog.records import Generation
from services.catalog.tables import passage_extents, passages, questions, vector_files, vectors
from services.catalog.vectors import VectorFiles
from services.common.errors import Unavailable
from services.common.nodes.retriever import Vectors
from services.common.nodes.scope import Stretch


def stretch_end(tx: Connection, stretch: Stretch, points: int) -> int:
    """Where to stop so that about so many points lie in between; what has one record time stays together."""
    begun = passage_extents.c.recorded_from
    query = select(begun).where(*_points(stretch)).order_by(begun).offset(points - 1).limit(1)
    found = tx.execute(query).scalar()
    return stretch.end if found is None else int(found)


def points_within(tx: Connection, stretch: Stretch) -> int:
    """How many points were recorded in the stretch."""
    found = select(func.count()).select_from(passage_extents).where(*_points(stretch))
    asked = select(func.count()).select_from(questions).where(*_questions(stretch))
    return int(tx.execute(found).scalar_one()) + int(tx.execute(asked).scalar_one())


def unencoded(tx: Connection, encoder: str, stretch: Stretch) -> dict[str, str]:
    """Item id → text, of the items recorded in the stretch that the encoder has no vector for, in a fixed order."""
    erasing = under_way(tx, stretch.tenant, stretch.collection)
    found = _needed(encoder, *_points(stretch), passage_extents.c.doc_id.not_in(erasing))
    asked = _asked(encoder, *_questions(stretch))
    return _pairs(tx, found.order_by(passages.c.passage_id)) | _pairs(tx, asked.order_by(questions.c.question_key))


def count_unencoded(tx: Connection, encoder: str, stretch: Stretch) -> int:
    """How many items those are."""
    queries = _needed(encoder, *_points(stretch)), _asked(encoder, *_questions(stretch))
    return sum(int(tx.execute(select(func.count()).select_from(query.subquery())).scalar_one()) for query in queries)


def add_vectors(tx: Connection, stretch: Stretch, file: VectorFile) -> None:
    """Make a file of vectors count. Raises Unavailable where an item has gone or has got its vector from elsewhere."""
    erasing = under_way(tx, stretch.tenant, stretch.collection)
    kept = passage_extents.c.doc_id.not_in(erasing), passages.c.passage_id.in_(file.item_ids)
    asked = _asked(file.encoder, questions.c.question_key.in_(file.item_ids))
    if len(_pairs(tx, _needed(file.encoder, *kept)) | _pairs(tx, asked)) < len(file.item_ids):
        raise Unavailable("passages changed while they were encoded; those that still need a vector get it next")
    rows = [{"item_id": item, "encoder": file.encoder, "file_id": file.file_id} for item in file.item_ids]
    tx.execute(insert(vector_files).values(file_id=file.file_id, encoder=file.encoder, rows=len(rows)))
    tx.execute(insert_new(tx, vectors), rows)
    mine = select(func.count()).select_from(vectors).where(vectors.c.file_id == file.file_id)
    if tx.execute(mine).scalar_one() != len(rows):
        raise Unavailable("passages were encoded by two at once; the first one's vectors count")


def sample(tx: Connection, files: VectorFiles, generation: Generation, most: int) -> Vectors:
    """Some vectors of the generation's encoder, the same at every call, float32, shape (up to `most`, dimensions).

    Item ids are hashes of their content, so their order is as good as a random one.
    """
    mine = select(vectors.c.item_id, vectors.c.file_id).where(vectors.c.encoder == generation.encoder)
    chosen = {row.item_id: row.file_id for row in tx.execute(mine.order_by(vectors.c.item_id).limit(most))}
    found = dict(files.gather(chosen, generation.dimensions))
    return np.stack([found[item] for item in chosen]) if chosen else np.zeros((0, generation.dimensions), np.float32)


def _needed(encoder: str, *where: ColumnElement[bool]) -> Select[Any]:
    """Passages on record without a vector of the encoder."""
    known = exists().where(vectors.c.item_id == passages.c.passage_id, vectors.c.encoder == encoder)
    joined = passages.join(passage_extents, passage_extents.c.passage_id == passages.c.passage_id)
    return select(passages.c.passage_id, passages.c.embedded).distinct().select_from(joined).where(*where, ~known)


def _asked(encoder: str, *where: ColumnElement[bool]) -> Select[Any]:
    known = exists().where(vectors.c.item_id == questions.c.question_key, vectors.c.encoder == encoder)
    return select(questions.c.question_key, questions.c.question).where(*where, ~known)


def _pairs(tx: Connection, query: Select[Any]) -> dict[str, str]:
    return {row[0]: row[1] for row in tx.execute(query)}


def _points(stretch: Stretch) -> tuple[ColumnElement[bool], ...]:
    table = passage_extents.c
    here = (table.tenant == stretch.tenant, table.collection == stretch.collection)
    return (*here, table.recorded_from > stretch.start, table.recorded_from <= stretch.end)


def _questions(stretch: Stretch) -> tuple[ColumnElement[bool], ...]:
    table = questions.c
    here = (table.tenant == stretch.tenant, table.collection == stretch.collection)
    return (*here, table.recorded_at > stretch.start, table.recorded_at <= stretch.end)
