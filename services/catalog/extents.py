"""Write what a splice does: extents closed and added, for versions, facts and the passages of documents."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from services.catalog.records import key
from services.catalog.tables import occurrences, passage_extents, statements, versions
from services.common.moment import OPEN_END, Span, coalesce
from services.common.timeline import Piece, Splice, restate

Coverage = dict[tuple[str, str], list[Span]]
"""Where in valid time each (passage id, metadata as JSON) of a document stands in the newest record."""


def current_pieces(tx: Connection, table: Table, content: str, where: Mapping[str, str]) -> list[Piece[str]]:
    """The newest record of one timeline, in order of valid time."""
    query = select(table.c[content], table.c.valid_from, table.c.valid_to).where(
        *(table.c[name] == value for name, value in where.items()), table.c.recorded_to == OPEN_END
    )
    return [Piece(Span(start, end), said) for said, start, end in tx.execute(query.order_by(table.c.valid_from))]


def write_splice(
    tx: Connection, table: Table, content: str, where: Mapping[str, str], change: Splice[str], recorded: int
) -> None:
    """Close and add the extents of one timeline."""
    for piece in change.close:
        tx.execute(
            update(table)
            .where(
                *(table.c[name] == value for name, value in where.items()),
                table.c[content] == piece.content,
                table.c.valid_from == piece.valid.start,
                table.c.recorded_to == OPEN_END,
            )
            .values(recorded_to=recorded)
        )
    rows = [{**where, content: piece.content, **_rectangle(piece.valid, recorded)} for piece in change.add]
    if rows:
        tx.execute(insert(table), rows)


def write_statements(
    tx: Connection, where: Mapping[str, str], after: Sequence[Piece[str]], change: Splice[str], recorded: int
) -> None:
    """Restate every boundary the change touches; `where` names tenant, collection, view and entity."""
    table = statements
    same = [table.c[name] == value for name, value in where.items()]
    stated = tx.execute(select(table.c.event).where(*same).distinct()).scalars().all()
    rows = [
        {**where, "event": row.event, "created": row.created, "content": row.content, "until": row.until}
        for row in restate(stated, after, change, recorded)
    ]
    if rows:
        tx.execute(insert(table), rows)


def write_passages(tx: Connection, where: Mapping[str, str], after: Sequence[Piece[str]], recorded: int) -> int:
    """Bring the extents of a document's passages in line with its versions; returns how many points changed.

    A passage that stands in the old version and in the new one keeps its points: only the spans by which its coverage
    of valid time grew or shrank are written.
    """
    wanted = _coverage(tx, after)
    standing = _standing(tx, where)
    changed = 0
    for named in sorted(set(wanted) | set(standing)):
        old, new = set(standing.get(named, ())), set(wanted.get(named, ()))
        _close_points(tx, named, old - new, recorded)
        _add_points(tx, where, named, sorted(new - old), recorded)
        changed += len(old ^ new)
    return changed


def _coverage(tx: Connection, after: Sequence[Piece[str]]) -> Coverage:
    spans: dict[str, list[Span]] = defaultdict(list)
    for piece in after:
        spans[piece.content].append(piece.valid)
    described = select(versions.c.version_id, versions.c.metadata).where(versions.c.version_id.in_(list(spans)))
    metadata = {version: json.dumps(said, sort_keys=True) for version, said in tx.execute(described)}
    standing = select(occurrences.c.version_id, occurrences.c.passage_id).where(
        occurrences.c.version_id.in_(list(spans))
    )
    covered: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for version, passage in tx.execute(standing.distinct()):
        covered[passage, metadata[version]] += spans[version]
    return {named: coalesce(found) for named, found in covered.items()}


def _standing(tx: Connection, where: Mapping[str, str]) -> Coverage:
    table = passage_extents
    query = select(table.c.passage_id, table.c.metadata, table.c.valid_from, table.c.valid_to).where(
        *(table.c[name] == value for name, value in where.items()), table.c.recorded_to == OPEN_END
    )
    found: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for passage, metadata, start, end in tx.execute(query):
        found[passage, json.dumps(metadata, sort_keys=True)].append(Span(start, end))
    return found


def point_id(named: tuple[str, str], valid: Span, recorded: int) -> str:
    return key("point", *named, str(valid.start), str(valid.end), str(recorded))


def _close_points(tx: Connection, named: tuple[str, str], spans: Iterable[Span], recorded: int) -> None:
    table = passage_extents
    for span in spans:
        live = select(table.c.point_id, table.c.metadata).where(
            table.c.passage_id == named[0],
            table.c.valid_from == span.start,
            table.c.valid_to == span.end,
            table.c.recorded_to == OPEN_END,
        )
        for point, metadata in tx.execute(live).all():
            if json.dumps(metadata, sort_keys=True) == named[1]:
                tx.execute(update(table).where(table.c.point_id == point).values(recorded_to=recorded))


def _add_points(
    tx: Connection, where: Mapping[str, str], named: tuple[str, str], spans: Sequence[Span], recorded: int
) -> None:
    rows: list[dict[str, Any]] = [
        {
            **where,
            "point_id": point_id(named, span, recorded),
            "passage_id": named[0],
            "metadata": json.loads(named[1]),
            **_rectangle(span, recorded),
        }
        for span in spans
    ]
    if rows:
        tx.execute(insert(passage_extents), rows)


def _rectangle(valid: Span, recorded: int) -> dict[str, int]:
    return {
        "valid_from": valid.start,
        "valid_to": valid.end,
        "recorded_from": recorded,
        "recorded_to": OPEN_END,
    }
