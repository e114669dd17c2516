"""Read the catalog at a moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, select

from services.catalog.records import Located, digest
from services.catalog.tables import (
    collections,
    fact_extents,
    facts,
    occurrences,
    passages,
    questions,
    version_extents,
    versions,
)
from services.common.errors import CollectionNotFound, DocumentNotFound
from services.common.moment import OPEN_END, Extent, Moment, Span


@dataclass(frozen=True, slots=True)
class FactAt:
    """A fact with one of its extents."""

    fact_id: str
    question_key: str
    question: str
    answer: str
    also_accepted: tuple[str, ...]
    source: str
    extent: Extent


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    name: str
    documents: int
    passages: int
    facts: int
    created_at: int
    recorded_at: int


def passages_at(
    tx: Connection, tenant: str, name: str, passage_ids: Sequence[str], moment: Moment
) -> dict[str, Located]:
    """The collection's passages visible at the moment, each where it first stands in the version visible then.

    A passage id missing from the result is not visible: this is the last check of the moment.
    """
    query = (
        select(occurrences, versions, *_rectangle(version_extents))
        .join(versions, versions.c.version_id == occurrences.c.version_id)
        .join(version_extents, version_extents.c.version_id == versions.c.version_id)
        .where(
            occurrences.c.passage_id.in_(passage_ids),
            versions.c.tenant == tenant,
            versions.c.collection == name,
            _visible(version_extents, moment),
        )
        .order_by(occurrences.c.ordinal.desc())
    )
    return {row.passage_id: _located(row) for row in tx.execute(query)}


def fact_at(tx: Connection, question_key: str, fact_id: str, moment: Moment) -> FactAt | None:
    """The fact, if the catalog too says that it is the one visible at the moment."""
    query = _facts().where(
        facts.c.question_key == question_key, facts.c.fact_id == fact_id, _visible(fact_extents, moment)
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else _fact(row)


def fact_extents_at(tx: Connection, question_key: str, known_at: int) -> list[FactAt]:
    """The answers to a canonical question over valid time, in its order, as on record at `known_at`."""
    query = _facts().where(facts.c.question_key == question_key, _on_record(fact_extents, known_at))
    return [_fact(row) for row in tx.execute(query.order_by(fact_extents.c.valid_from))]


def document_edges(tx: Connection, tenant: str, name: str, doc_ids: Sequence[str], known_at: int) -> set[int]:
    """The instants at which a version of one of the documents begins or ends, as on record at `known_at`."""
    table = version_extents.c
    here = (table.tenant == tenant, table.collection == name, table.doc_id.in_(doc_ids))
    rows = tx.execute(select(table.valid_from, table.valid_to).where(*here, _on_record(version_extents, known_at)))
    return {edge for row in rows for edge in row}


@dataclass(frozen=True, slots=True)
class Phrasing:
    """A text on record, and the key of the canonical question that it asks."""

    question_key: str
    text: str


_CANONICAL = func.coalesce(questions.c.phrasing_of, questions.c.question_key).label("canonical")


def question_named(tx: Connection, tenant: str, name: str, text: str, known_at: int) -> str | None:
    """The key of the canonical question that reads exactly so, or has such a phrasing, on record at `known_at`."""
    query = select(_CANONICAL).where(
        questions.c.tenant == tenant,
        questions.c.collection == name,
        questions.c.digest == digest(text),
        questions.c.recorded_at <= known_at,
    )
    return tx.execute(query.limit(1)).scalar_one_or_none()


def phrasings(tx: Connection, keys: Iterable[str], known_at: int) -> dict[str, Phrasing]:
    """The canonical questions and other phrasings on record at `known_at`, by the keys they are indexed under."""
    query = select(questions.c.question_key, questions.c.question, _CANONICAL).where(
        questions.c.question_key.in_(list(keys)), questions.c.recorded_at <= known_at
    )
    return {row.question_key: Phrasing(row.canonical, row.question) for row in tx.execute(query)}


_COLLECTION = select(collections).where(
    collections.c.tenant == bindparam("its_tenant"), collections.c.collection == bindparam("its_name")
)


def collection(tx: Connection, tenant: str, name: str) -> Row[Any]:
    """The collection's row. Raises CollectionNotFound."""
    row = tx.execute(_COLLECTION, {"its_tenant": tenant, "its_name": name}).one_or_none()
    if row is None:
        raise CollectionNotFound(f"there is no collection {name[:128]!r}; ingest something into it first")
    return row


def list_collections(tx: Connection, tenant: str) -> list[CollectionInfo]:
    """Every collection of the tenant, with how much of each kind the newest record holds."""
    query = select(collections).where(collections.c.tenant == tenant).order_by(collections.c.collection)
    return [_collection_info(tx, row) for row in tx.execute(query).all()]


def _collection_info(tx: Connection, row: Row[Any]) -> CollectionInfo:
    def count(what: ColumnElement[Any], *where: ColumnElement[bool]) -> int:
        return int(tx.execute(select(func.count(what.distinct())).where(*where)).scalar_one())

    def here(table: Any) -> ColumnElement[bool]:
        return and_(table.c.tenant == row.tenant, table.c.collection == row.collection)

    return CollectionInfo(
        name=row.collection,
        documents=count(version_extents.c.doc_id, here(version_extents), version_extents.c.recorded_to == OPEN_END),
        passages=count(passages.c.passage_id, here(passages)),
        facts=count(
            fact_extents.c.id,
            here(questions),
            questions.c.question_key == fact_extents.c.question_key,
            fact_extents.c.recorded_to == OPEN_END,
        ),
        created_at=row.created_at,
        recorded_at=row.recorded_at,
    )


def list_documents(tx: Connection, tenant: str, name: str, after: str, limit: int) -> list[Row[Any]]:
    """Rows (doc_id, title, versions) in order of doc_id, those after `after`."""
    query = (
        select(
            versions.c.doc_id,
            func.max(versions.c.title).label("title"),
            func.count(versions.c.version_id).label("versions"),
        )
        .where(versions.c.tenant == tenant, versions.c.collection == name, versions.c.doc_id > after)
        .group_by(versions.c.doc_id)
        .order_by(versions.c.doc_id)
        .limit(limit)
    )
    return list(tx.execute(query).all())


def document_versions(tx: Connection, tenant: str, name: str, doc_id: str) -> list[Row[Any]]:
    """Every extent of every version, in order of record and valid time. Raises DocumentNotFound."""
    query = (
        select(versions, *_rectangle(version_extents))
        .join(version_extents, version_extents.c.version_id == versions.c.version_id)
        .where(versions.c.tenant == tenant, versions.c.collection == name, versions.c.doc_id == doc_id)
        .order_by(version_extents.c.recorded_from, version_extents.c.valid_from)
    )
    rows = list(tx.execute(query).all())
    if not rows:
        raise DocumentNotFound(f"there is no document {doc_id[:128]!r} in collection {name!r}")
    return rows


def version_text(tx: Connection, tenant: str, name: str, doc_id: str, version_id: str) -> Row[Any]:
    """A version as it was parsed, with text and pages. Raises DocumentNotFound."""
    query = select(versions).where(
        versions.c.tenant == tenant,
        versions.c.collection == name,
        versions.c.doc_id == doc_id,
        versions.c.version_id == version_id,
    )
    row = tx.execute(query).one_or_none()
    if row is None:
        raise DocumentNotFound(f"document {doc_id[:128]!r} in collection {name!r} has no version {version_id[:64]!r}")
    return row


def _rectangle(table: Any) -> list[ColumnElement[int]]:
    return [table.c.valid_from, table.c.valid_to, table.c.recorded_from, table.c.recorded_to]


def _visible(table: Any, moment: Moment) -> ColumnElement[bool]:
    return and_(
        table.c.valid_from <= moment.as_of,
        table.c.valid_to > moment.as_of,
        _on_record(table, moment.known_at),
    )


def _on_record(table: Any, known_at: int) -> ColumnElement[bool]:
    return and_(table.c.recorded_from <= known_at, table.c.recorded_to > known_at)


def _extent(row: Row[Any]) -> Extent:
    return Extent(Span(row.valid_from, row.valid_to), Span(row.recorded_from, row.recorded_to))


def _located(row: Row[Any]) -> Located:
    return Located(
        passage_id=row.passage_id,
        version_id=row.version_id,
        doc_id=row.doc_id,
        title=row.title,
        uri=row.uri,
        section=tuple(row.section),
        start=row.start,
        end=row.end,
        text=row.text[row.start : row.end],
        extent=_extent(row),
        dated=row.dated,
        pages=tuple(row.pages),
    )


def _facts() -> Any:
    return (
        select(facts, questions.c.question, *_rectangle(fact_extents))
        .join(questions, questions.c.question_key == facts.c.question_key)
        .join(fact_extents, fact_extents.c.fact_id == facts.c.fact_id)
    )


def _fact(row: Row[Any]) -> FactAt:
    return FactAt(
        row.fact_id, row.question_key, row.question, row.answer, tuple(row.also_accepted), row.source, _extent(row)
    )
