"""Encode: what the rows of a batch need vectors for and do not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from sqlalchemy import Connection, select

from pipelines.records import Row
from services.catalog.records import DocumentIn
from services.catalog.tables import vectors
from services.common.batches import batched
from services.common.nodes.encoder import Encoder, TextKind, Vectors

CALL = 32
"""Texts in one call, so that progress shows and a cancelled job stops soon."""


def wanted(rows: Iterable[Row], tenant: str, collection: str) -> dict[str, str]:
    """Item id → the text embedded: the passages of documents and the canonical questions of facts."""
    items: dict[str, str] = {}
    for row in rows:
        if isinstance(row, DocumentIn):
            items |= {row.passage_id(tenant, collection, passage): passage.embedded for passage in row.passages}
        else:
            # The first wording of a question is the one on record.
            items.setdefault(row.question_key(tenant, collection), row.question)
    return items


def missing(tx: Connection, items: Mapping[str, str], encoder: str) -> dict[str, str]:
    """Those of the items that the encoder has no vector for yet."""
    known: set[str] = set()
    for ids in batched(items, 500):
        query = select(vectors.c.item_id).where(vectors.c.item_id.in_(ids), vectors.c.encoder == encoder)
        known.update(tx.execute(query).scalars())
    return {item: text for item, text in items.items() if item not in known}


async def encode(encoder: Encoder, model: str, texts: Iterable[str], dimensions: int) -> Vectors:
    """Passage vectors in order, shape (texts, dimensions)."""
    parts = [await encoder.encode(model, TextKind.PASSAGE, part) for part in batched(texts, CALL)]
    return np.concatenate(parts) if parts else np.zeros((0, dimensions), np.float32)
