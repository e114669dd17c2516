"""What a verification asks of two generations: the points of the catalog, and queries like those of users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, func, select

from services.catalog.records import key
from services.catalog.tables import answers, passage_extents, passages, questions
from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span, now
from services.common.nodes.retriever import Contents, fingerprint

_RECENT = 1_000
"""Answers that are looked through for different questions."""
_LONGEST = 200
"""Characters of a passage that make a query."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection with its newest record time and its number of points."""

    tenant: str
    name: str
    recorded_at: int
    points: int


def contents(tx: Connection, tenant: str, collection: str) -> Contents:
    """What an index that has applied all of the collection's record must hold."""
    points, total = 0, 0
    for point_id, extent in _points(tx, tenant, collection):
        points += 1
        total = (total + fingerprint(point_id, extent)) % 2**64
    return Contents(points, total)


def largest(tx: Connection, known: list[tuple[str, str, int]], most: int) -> list[Collection]:
    """The collections with the most passages, those first."""
    table = passage_extents.c
    counted = select(table.tenant, table.collection, func.count().label("points")).group_by(
        table.tenant, table.collection
    )
    counts = {(row.tenant, row.collection): int(row.points) for row in tx.execute(counted)}
    found = [Collection(*one, counts[one[:2]]) for one in known if one[:2] in counts]
    return sorted(found, key=lambda one: (-one.points, one.tenant, one.name))[:most]


def queries(tx: Connection, where: Collection, most: int) -> list[str]:
    """Up to `most` recent questions, and as many passages' beginnings: title, section and first sentence."""
    asked = (
        select(answers.c.request)
        .where(answers.c.tenant == where.tenant, answers.c.collection == where.name)
        .order_by(answers.c.created_at.desc())
        .limit(_RECENT)
    )
    texts = [str(request.get("text") or "") for request in tx.execute(asked).scalars()]
    begun = (
        select(passages.c.passage_id, passages.c.embedded)
        .distinct()
        .join(passage_extents, passage_extents.c.passage_id == passages.c.passage_id)
        .where(*_here(passage_extents, where.tenant, where.name), passages.c.embedded != "")
        .order_by(passages.c.passage_id)  # a hash of the content: any first ones are a sample
        .limit(most)
    )
    starts = [_first_sentence(row.embedded) for row in tx.execute(begun)]
    return _distinct(texts)[:most] + _distinct(starts)[:most]


def moments(tx: Connection, where: Collection, known_at: int) -> list[Moment]:
    """Now; half of the record ago; and now as of a valid time half of the dated passages begin before."""
    clock = now()
    here = _here(passage_extents, where.tenant, where.name)
    recorded, valid = passage_extents.c.recorded_from, passage_extents.c.valid_from
    middle = _median(tx, recorded, *here)
    dated = _median(tx, valid, *here, valid != OPEN_START)
    found = [Moment(clock, known_at)]
    found += [Moment(clock, min(middle, known_at))] if middle is not None else []
    found += [Moment(dated, known_at)] if dated is not None else []
    return list(dict.fromkeys(found))


def _points(tx: Connection, tenant: str, collection: str) -> Iterator[tuple[str, Extent]]:
    for row in tx.execute(select(passage_extents).where(*_here(passage_extents, tenant, collection))):
        yield row.point_id, Extent(Span(row.valid_from, row.valid_to), Span(row.recorded_from, row.recorded_to))
    asked = select(questions.c.question_key, questions.c.recorded_at).where(*_here(questions, tenant, collection))
    for row in tx.execute(asked):
        yield key("point", row.question_key), Extent(Span(OPEN_START, OPEN_END), Span(row.recorded_at, OPEN_END))


def _median(tx: Connection, column: ColumnElement[int], *where: ColumnElement[bool]) -> int | None:
    total = int(tx.execute(select(func.count(column)).where(*where)).scalar_one())
    found = tx.execute(select(column).where(*where).order_by(column).offset(total // 2).limit(1)).scalar()
    return None if found is None else int(found)


def _first_sentence(text: str) -> str:
    return text[: text.find(". ") + 1 or _LONGEST][:_LONGEST]


def _distinct(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _here(table: Table, tenant: str, collection: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.tenant == tenant, table.c.collection == collection
