"""Generations, watermarks, and the one place where a question's moment is resolved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, delete, select

from services.catalog.inserts import insert_new, upsert
from services.catalog.reading import collection as collection_row
from services.catalog.records import Generation
from services.catalog.tables import collections, generations, watermarks
from services.common.errors import Unavailable
from services.common.moment import OPEN_END, OPEN_START, Moment, now
from services.common.nodes.features import DOCUMENTS, FACTS
from services.common.nodes.funnel import Funnel
from services.common.nodes.retriever import Vectors
from services.common.nodes.usage import USAGE


def index_reader(generation: str) -> str:
    """The name under which a generation of the index keeps its watermark in the catalog."""
    return f"index:{generation}"


def view_reader(view: str) -> str:
    """The name under which a feature view keeps its watermark in the catalog."""
    return f"features:{view}"


VIEWS = (FACTS, DOCUMENTS, USAGE)
"""The feature views that follow the record of a collection."""
LIVE, DROPPED = "live", "dropped"
_LIVE = select(generations).where(generations.c.state == LIVE)


def live_generation(tx: Connection) -> Generation:
    """The generation that answers are served from. Raises Unavailable before there is one."""
    row = tx.execute(_LIVE).one_or_none()
    if row is None:
        raise Unavailable("there is no live index generation yet; start the worker, which creates the first")
    return generation_of(row)


def all_generations(tx: Connection) -> list[Generation]:
    """Every generation that may have an index, live or not."""
    return [generation_of(row) for row in tx.execute(select(generations).where(generations.c.state != DROPPED))]


def generation_of(row: Row[Any]) -> Generation:
    """The generation that a row of its table describes."""
    return Generation(row.generation, row.encoder, row.dimensions, Funnel.from_json(row.funnel), row.schema_version)


def basis(tx: Connection, generation: Generation) -> Vectors | None:
    """What rotates the vectors of a rotated generation, float32, shape (funnel.dimensions, dimensions); else None."""
    stored = tx.execute(select(generations.c.basis).where(generations.c.generation == generation.name)).scalar()
    if stored is None:
        return None
    return np.frombuffer(stored, "<f4").reshape(generation.funnel.dimensions, generation.dimensions)


def ensure_generation(tx: Connection, generation: Generation) -> None:
    """Make the generation live if there is none at all."""
    if tx.execute(select(generations.c.generation).limit(1)).one_or_none() is None:
        tx.execute(
            insert_new(tx, generations).values(
                generation=generation.name,
                encoder=generation.encoder,
                dimensions=generation.dimensions,
                funnel=generation.funnel.to_json(),
                schema_version=generation.schema_version,
                state=LIVE,
                created_at=now(),
                switched_at=now(),
            )
        )


def set_watermark(tx: Connection, reader: str, tenant: str, collection: str, recorded_at: int) -> None:
    """Note how far a reader has durably applied a collection's record."""
    row = {"reader": reader, "tenant": tenant, "collection": collection, "recorded_at": recorded_at}
    upsert(tx, watermarks, row)


def watermark(tx: Connection, reader: str, tenant: str, collection: str) -> int:
    """How far a reader has applied a collection's record, as last noted; OPEN_START if never."""
    table = watermarks.c
    mine = (table.reader == reader) & (table.tenant == tenant) & (table.collection == collection)
    found = tx.execute(select(table.recorded_at).where(mine)).scalar()
    return OPEN_START if found is None else int(found)


def forget_reader(tx: Connection, reader: str) -> None:
    """Drop every watermark of a reader that has been dropped."""
    tx.execute(delete(watermarks).where(watermarks.c.reader == reader))


def resolve_moment(
    tx: Connection, tenant: str, name: str, generation: Generation, as_of: int, known_at: int | None
) -> Moment:
    """Pin the moment of one question. The very end of time sees what has an open end, like the instant before it.

    `known_at` defaults to the lowest watermark the question needs, never to the clock. A given one is pinned to the
    newest record at or before it: the record of that time is complete, so a replay sees the same.
    """
    row = collection_row(tx, tenant, name)
    as_of = min(as_of, OPEN_END - 1)
    if known_at is not None:
        return Moment(as_of, min(known_at, row.recorded_at))
    readers = [index_reader(generation.name), *(view_reader(view) for view in VIEWS)]
    return Moment(as_of, _lowest(tx, tenant, name, readers, row.created_at))


_MARKS = select(watermarks.c.recorded_at).where(
    watermarks.c.tenant == bindparam("its_tenant"),
    watermarks.c.collection == bindparam("its_name"),
    watermarks.c.reader.in_(bindparam("readers", expanding=True)),
)


def _lowest(tx: Connection, tenant: str, name: str, readers: Iterable[str], never: int) -> int:
    wanted = list(readers)
    found = list(tx.execute(_MARKS, {"its_tenant": tenant, "its_name": name, "readers": wanted}).scalars())
    return min(found) if len(found) == len(wanted) else never


def lagging(tx: Connection, readers: Iterable[str]) -> list[tuple[str, str, str]]:
    """Every (reader, tenant, collection) whose watermark is behind the newest record."""
    behind = []
    for reader in readers:
        query = (
            select(collections.c.tenant, collections.c.collection)
            .outerjoin(
                watermarks,
                (watermarks.c.tenant == collections.c.tenant)
                & (watermarks.c.collection == collections.c.collection)
                & (watermarks.c.reader == reader),
            )
            .where(watermarks.c.recorded_at.is_(None) | (watermarks.c.recorded_at < collections.c.recorded_at))
        )
        behind += [(reader, tenant, name) for tenant, name in tx.execute(query)]
    return behind


def known_collections(tx: Connection) -> list[tuple[str, str, int]]:
    """Every (tenant, collection, newest record time)."""
    query = select(collections.c.tenant, collections.c.collection, collections.c.recorded_at)
    return [(tenant, name, recorded) for tenant, name, recorded in tx.execute(query)]


def late_collections(tx: Connection, generation: Generation) -> list[tuple[str, str, int]]:
    """Every (tenant, collection, newest record time) that the generation's index has not applied all of."""
    late = {(tenant, name) for _, tenant, name in lagging(tx, [index_reader(generation.name)])}
    return [known for known in known_collections(tx) if known[:2] in late]
