"""Encode: what the rows of a batch need vectors for and do not have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import numpy as np
from sqlalchemy import Connection, select

from pipelines.records import Row
from pipelines.stages import cause
from services.catalog.records import DocumentIn
from services.catalog.tables import vectors
from services.common.batches import batched
from services.common.nodes.encoder import Encoder, TextKind, Vectors
from services.common.rpc.deadlines import deadline

CALL = 64
"""Texts in one call. The encoder stops between batches when a call is cancelled, so more would cost nothing but delay
where a node dies."""

CALL_SECONDS = 300.0
"""How long a call may take on a slow machine; a node that dies ends it at once."""


def wanted(rows: Iterable[Row], tenant: str, collection: str) -> dict[str, str]:
    """Item id → the text embedded: the passages of documents, the canonical questions of facts and their phrasings."""
    items: dict[str, str] = {}
    for row in rows:
        if isinstance(row, DocumentIn):
            items |= {row.passage_id(tenant, collection, passage): passage.embedded for passage in row.passages}
        else:
            # The first wording of a question is the one on record.
            items.setdefault(row.question_key(tenant, collection), row.question)
            items |= row.phrased(tenant, collection)
    return items


def missing(tx: Connection, items: Mapping[str, str], encoder: str) -> dict[str, str]:
    """Those of the items that the encoder has no vector for yet."""
    known: set[str] = set()
    for ids in batched(items, 500):
        query = select(vectors.c.item_id).where(vectors.c.item_id.in_(ids), vectors.c.encoder == encoder)
        known.update(tx.execute(query).scalars())
    return {item: text for item, text in items.items() if item not in known}


class EncoderLine:
    """One model of an encoder, kept busy: the next call already waits there when one is answered."""

    def __init__(self, encoder: Encoder, model: str, dimensions: int) -> None:
        self._encoder, self._model, self._dimensions = encoder, model, dimensions
        self._turns = asyncio.Semaphore(2)

    async def encode(self, texts: Iterable[str]) -> Vectors:
        """Passage vectors in order, shape (texts, dimensions). Texts of like length share a call.

        Raises what the first call that failed raised.
        """
        listed = list(texts)
        order = sorted(range(len(listed)), key=lambda row: len(listed[row]))
        found = np.empty((len(listed), self._dimensions), np.float32)
        try:
            async with asyncio.TaskGroup() as group:
                for rows in batched(order, CALL):
                    group.create_task(self._call(listed, rows, found))
        except BaseExceptionGroup as failed:
            raise cause(failed) from failed
        return found

    async def _call(self, texts: list[str], rows: list[int], found: Vectors) -> None:
        async with self._turns:
            with deadline(CALL_SECONDS):
                found[rows] = await self._encoder.encode(self._model, TextKind.PASSAGE, [texts[row] for row in rows])


async def encode(encoder: Encoder, model: str, texts: Iterable[str], dimensions: int) -> Vectors:
    """Passage vectors in order, shape (texts, dimensions)."""
    return await EncoderLine(encoder, model, dimensions).encode(texts)
