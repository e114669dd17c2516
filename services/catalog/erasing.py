"""Erase a document from the catalog: what is deleted, what is emptied, and how far an erasure is.

An erasure has the id of the job that works on it. Ids of documents, versions and passages are no content: the log of
events keeps what was recorded of them, and that something was erased; what a document was used for goes
(services.catalog.events).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, exists, insert, select, update

from services.catalog import answers as answering
from services.catalog import jobs as working
from services.catalog.tables import (
    answers,
    erasures,
    events,
    jobs,
    occurrences,
    passage_extents,
    passages,
    questions,
    statements,
    vector_files,
    vectors,
    version_extents,
    versions,
)
from services.common.errors import Conflict, DocumentNotFound, Unavailable
from services.common.moment import now
from services.common.nodes.features import DOCUMENTS

ERASE, REBUILD = "erase", "rebuild"
"""The kinds of jobs that must not run side by side: a rebuild would bring back what is being erased."""
ASKED, DONE = "asked", "done"
_PATIENCE_US = 60_000_000
_HARMLESS = ("facts", ERASE)
_ERASED = {"passage_id": "", "doc_id": "", "sha256": "", "features": {}}


@dataclass(frozen=True, slots=True)
class Erasure:
    """`state` is the step that is done last; `updated_at` when."""

    erasure_id: str
    tenant: str
    collection: str
    doc_id: str
    state: str
    created_at: int
    updated_at: int


def ask(tx: Connection, tenant: str, collection: str, doc_id: str) -> working.Job:
    """The job that erases the document, to be committed before it is enqueued; one under way already is queued again.

    Raises DocumentNotFound; Conflict while a job is not finished that may bring the document back.
    """
    begun = tx.execute(select(erasures).where(*_of(erasures, tenant, collection, doc_id), _unfinished())).first()
    if begun is not None:
        return _again(tx, tenant, begun.erasure_id)
    if tx.execute(select(versions.c.version_id).where(*_of(versions, tenant, collection, doc_id))).first() is None:
        raise DocumentNotFound(f"there is no document {doc_id[:128]!r} in collection {collection!r}")
    _check_quiet(tx, tenant, collection)
    job = working.create(tx, tenant, collection, ERASE, {"doc_id": doc_id, "files": []})
    clock = now()
    here = {"tenant": tenant, "collection": collection, "doc_id": doc_id}
    row = {"erasure_id": job.job_id, **here, "state": ASKED, "created_at": clock, "updated_at": clock}
    tx.execute(insert(erasures).values(row))
    return job


def stalled(tx: Connection) -> list[tuple[str, str]]:
    """(tenant, job id) of the erasures that failed a while ago."""
    quiet = (jobs.c.state == working.FAILED) & (jobs.c.updated_at < now() - _PATIENCE_US)
    query = select(jobs.c.tenant, jobs.c.job_id).join(erasures, erasures.c.erasure_id == jobs.c.job_id)
    return [(tenant, job_id) for tenant, job_id in tx.execute(query.where(quiet, _unfinished()))]


def resume(tx: Connection) -> None:
    """Queue them again: what is to be erased does not stay for want of a node."""
    for tenant, job_id in stalled(tx):
        working.retry(tx, tenant, job_id)


def ask_rebuild(tx: Connection, tenant: str) -> working.Job:
    """The job that rebuilds the live generation, of all collections; one under way already is that one."""
    busy = (jobs.c.kind == REBUILD) & jobs.c.state.not_in(working.FINISHED)
    begun = tx.execute(select(jobs.c.job_id).where(busy).limit(1)).scalar()
    if begun is not None:
        return working.by_id(tx, begun)
    return working.create(tx, tenant, "*", REBUILD, {"files": []})


def get(tx: Connection, erasure_id: str) -> Erasure:
    row = tx.execute(select(erasures).where(erasures.c.erasure_id == erasure_id)).one()
    return Erasure(**row._mapping)


def step_done(tx: Connection, erasure_id: str, state: str) -> None:
    tx.execute(update(erasures).where(erasures.c.erasure_id == erasure_id).values(state=state, updated_at=now()))


def under_way(tx: Connection, tenant: str, collection: str) -> frozenset[str]:
    """The documents of the collection that are being erased: nothing may be recorded of them, or shown."""
    mine = (erasures.c.tenant == tenant, erasures.c.collection == collection)
    return frozenset(tx.execute(select(erasures.c.doc_id).where(*mine, _unfinished())).scalars())


def any_under_way(tx: Connection) -> bool:
    return tx.execute(select(erasures.c.erasure_id).where(_unfinished()).limit(1)).first() is not None


def delete_document(tx: Connection, erasure: Erasure) -> None:
    """Everything the catalog says of the document, but the ids of its passages: those name its vectors."""
    where = (erasure.tenant, erasure.collection, erasure.doc_id)
    mine = select(versions.c.version_id).where(*_of(versions, *where))
    tx.execute(delete(occurrences).where(occurrences.c.version_id.in_(mine)))
    for table in (version_extents, passage_extents, versions):
        tx.execute(delete(table).where(*_of(table, *where)))
    stated = (statements.c.tenant == where[0], statements.c.collection == where[1], statements.c.entity == where[2])
    tx.execute(delete(statements).where(*stated, statements.c.view == DOCUMENTS))
    tx.execute(update(passages).where(*_of(passages, *where)).values(embedded=""))
    tx.execute(
        insert(events).values(
            event_id=str(uuid.uuid4()),
            tenant=erasure.tenant,
            collection=erasure.collection,
            recorded_at=now(),
            kind="erasure",
            payload={"doc_id": erasure.doc_id, "erasure_id": erasure.erasure_id},
        )
    )


def scrub_answers(tx: Connection, erasure: Erasure, before: int, after: str, limit: int) -> tuple[list[str], str]:
    """Empty what cites the document among the next answers; those under way since `before` fail.

    Those that considered it without citing it lose its hashes. Returns the ids of all that are emptied, and the id to
    go on after, which is empty at the end.
    """
    query = (
        select(answers)
        .where(
            answers.c.tenant == erasure.tenant,
            answers.c.collection == erasure.collection,
            answers.c.answer_id > after,
        )
        .order_by(answers.c.answer_id)
        .limit(limit)
    )
    rows = tx.execute(query).all()
    emptied = []
    for row in rows:
        values = _scrubbed(row, erasure.doc_id, before)
        if values is not None:
            tx.execute(update(answers).where(answers.c.answer_id == row.answer_id).values(values))
        if values is not None or (row.record or {}).get("erased"):
            emptied.append(row.answer_id)
        elif unnamed := _unnamed(row, erasure.doc_id):
            tx.execute(update(answers).where(answers.c.answer_id == row.answer_id).values(record=unnamed))
    return emptied, rows[-1].answer_id if len(rows) == limit else ""


def passage_ids(tx: Connection, erasure: Erasure) -> set[str]:
    mine = select(passages.c.passage_id).where(*_of(passages, erasure.tenant, erasure.collection, erasure.doc_id))
    return set(tx.execute(mine).scalars())


def named_files(tx: Connection) -> set[str]:
    """The vector files that count."""
    return set(tx.execute(select(vector_files.c.file_id)).scalars())


def staying(tx: Connection, file_id: str, unwanted: Collection[str]) -> list[str]:
    """The items of a file whose vectors are to be kept."""
    return [
        item
        for item in tx.execute(select(vectors.c.item_id).where(vectors.c.file_id == file_id)).scalars()
        if item not in unwanted
    ]


def doomed_files(tx: Connection, erasure: Erasure) -> dict[str, set[str]]:
    """File id → the items in it whose vectors go: the document's, and any that belong to nothing on record."""
    mine = select(passages.c.passage_id).where(*_of(passages, erasure.tenant, erasure.collection, erasure.doc_id))
    owned = exists().where(passages.c.passage_id == vectors.c.item_id) | exists().where(
        questions.c.question_key == vectors.c.item_id
    )
    found: dict[str, set[str]] = {}
    for row in tx.execute(select(vectors).where(vectors.c.item_id.in_(mine) | ~owned)):
        found.setdefault(row.file_id, set()).add(row.item_id)
    return found


def file_moved(tx: Connection, old: str, new: str, kept: Sequence[str]) -> None:
    """The items that stay lie in another file from now on; the old one is still named, until it is gone."""
    encoder = tx.execute(select(vector_files.c.encoder).where(vector_files.c.file_id == old)).scalar_one()
    if kept:
        tx.execute(insert(vector_files).values(file_id=new, encoder=encoder, rows=len(kept)))
        moved = (vectors.c.file_id == old) & (vectors.c.item_id == bindparam("item"))
        tx.execute(update(vectors).where(moved).values(file_id=new), [{"item": item} for item in kept])


def file_gone(tx: Connection, old: str) -> None:
    tx.execute(delete(vectors).where(vectors.c.file_id == old))
    tx.execute(delete(vector_files).where(vector_files.c.file_id == old))


def delete_passages(tx: Connection, erasure: Erasure) -> None:
    """The last names of the document's passages."""
    tx.execute(delete(passages).where(*_of(passages, erasure.tenant, erasure.collection, erasure.doc_id)))


def scrub_jobs(tx: Connection, erasure: Erasure) -> list[Mapping[str, Any]]:
    """Forget why rows of the document failed; returns the requests of all finished jobs of the collection."""
    here = (jobs.c.tenant == erasure.tenant, jobs.c.collection == erasure.collection)
    requests = []
    for row in tx.execute(select(jobs.c.job_id, jobs.c.state, jobs.c.request, jobs.c.failures).where(*here)).all():
        if row.state in working.FINISHED:
            requests.append(row.request)
        kept = [_silent(failure, erasure.doc_id) for failure in row.failures]
        if kept != row.failures:
            tx.execute(update(jobs).where(jobs.c.job_id == row.job_id).values(failures=kept))
    return requests


def recorded_before(tx: Connection, tenant: str, collection: str, doc_id: str, instant: int) -> bool:
    """Whether the catalog has anything of the document that was on record then."""
    extents = version_extents
    query = select(extents.c.id).where(*_of(extents, tenant, collection, doc_id), extents.c.recorded_from <= instant)
    return tx.execute(query.limit(1)).first() is not None


def _again(tx: Connection, tenant: str, job_id: str) -> working.Job:
    job = working.get(tx, tenant, job_id)
    return working.retry(tx, tenant, job_id) if job.state in (working.FAILED, working.CANCELLED) else job


def _check_quiet(tx: Connection, tenant: str, collection: str) -> None:
    busy = jobs.c.state.not_in(working.FINISHED) & jobs.c.kind.not_in(_HARMLESS)
    here = (jobs.c.tenant == tenant) & ((jobs.c.collection == collection) | (jobs.c.kind == REBUILD))
    found = tx.execute(select(jobs.c.job_id, jobs.c.kind).where(busy, here).limit(1)).first()
    if found is not None:
        raise Conflict(
            f"job {found.job_id} ({found.kind}) is not finished and may bring the document back; "
            "wait for it, or cancel it"
        )


def _scrubbed(row: Row[Any], doc_id: str, before: int) -> dict[str, Any] | None:
    if row.state == answering.ASKED and row.created_at <= before:
        problem = Unavailable("a document was erased while this was answered; ask again").problem()
        record = {**problem, "erased": True}
        return {"state": answering.FAILED, "attempt": row.attempt + 1, "record": record, "request": _mute(row.request)}
    cited = (row.record or {}).get("citations", ())
    if not any(citation.get("doc_id") == doc_id for citation in cited):
        return None
    emptied = {"question": "", "answer": "", "moment_phrase": "", "citations": [], "basis": {}}
    return {"record": {**row.record, **emptied, "erased": True}, "request": _mute(row.request)}


def _unnamed(row: Row[Any], doc_id: str) -> dict[str, Any] | None:
    """The record without hashes of the document's text and the values of its features; None if it has none."""
    basis = (row.record or {}).get("basis") or {}
    passages = basis.get("passages", ())
    if not any(passage["doc_id"] == doc_id for passage in passages):
        return None
    kept = [passage if passage["doc_id"] != doc_id else _ERASED for passage in passages]
    return {**row.record, "basis": {**basis, "passages": kept}}


def _mute(request: Mapping[str, Any]) -> dict[str, Any]:
    return {**request, "text": "", "phrase": ""}


def _silent(failure: Mapping[str, Any], doc_id: str) -> Mapping[str, Any]:
    return {**failure, "reason": "erased"} if failure.get("id") == doc_id else failure


def _of(table: Any, tenant: str, collection: str, doc_id: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.tenant == tenant, table.c.collection == collection, table.c.doc_id == doc_id


def _unfinished() -> ColumnElement[bool]:
    return erasures.c.state != DONE
