"""The one way in: documents and facts recorded together in one transaction, each at a record time of its own."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from services.catalog.erasing import under_way
from services.catalog.extents import current_pieces, write_passages, write_splice, write_statements
from services.catalog.inserts import insert_new
from services.catalog.ledger import Ledger
from services.catalog.records import DocumentIn, FactIn, check_text, digest
from services.catalog.tables import (
    events,
    fact_extents,
    facts,
    occurrences,
    passages,
    questions,
    vector_files,
    vectors,
    version_extents,
    versions,
)
from services.common.errors import InvalidDocument
from services.common.moment import OPEN_END, OPEN_START, Span, format_instant
from services.common.nodes.features import DOCUMENTS, FACTS
from services.common.timeline import Piece, Splice, apply_splice, assertion_span, splice


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A file written before the commit that makes it count."""

    file_id: str
    encoder: str
    item_ids: Sequence[str]


class Recorder:
    """Records rows in one collection. One instance lives for one transaction."""

    def __init__(self, tx: Connection, tenant: str, collection: str, history_job: str = "") -> None:
        self._tx, self._tenant, self._collection = tx, tenant, collection
        self._here = {"tenant": tenant, "collection": collection}
        self._ledger = Ledger(tx, tenant, collection, history_job)
        self._erasing = under_way(tx, tenant, collection)
        self.passages = 0
        """How many points of passages were added or closed."""

    def document(self, row: DocumentIn) -> bool:
        """Record a version; False if the newest record says so already.

        Raises InvalidDocument for an empty span, for text that cannot be stored, and while the document is erased.
        """
        check_text(row.doc_id, row.title, row.uri, row.text, *row.metadata, *row.metadata.values())
        self._check_kept(row.doc_id)
        where = {**self._here, "doc_id": row.doc_id}
        current = current_pieces(self._tx, version_extents, "version_id", where)
        version = row.version_id(self._tenant, self._collection)
        recorded = self._ledger.next(row.recorded_at)
        start = row.valid_from
        if start is None:
            if _says_undated(current, version, recorded, row.valid_to):
                return False
            start = recorded if current else OPEN_START
        change = splice(current, _span(current, start, row.valid_to), version)
        if not change.add:
            return False
        self._ledger.give(recorded)
        self._describe(row, version)
        self._lay_versions(where, current, change, recorded)
        self._event("version", recorded, {"doc_id": row.doc_id, "version_id": version})
        return True

    def end(
        self, doc_id: str, valid_from: int | None = None, valid_to: int | None = None, recorded_at: int | None = None
    ) -> bool:
        """Withdraw what a document says over a span; False if it says nothing there. Raises InvalidDocument.

        Without `valid_from` its validity ends at the record time, without `valid_to` it does so for good: versions
        said to begin later are withdrawn too.
        """
        self._check_kept(doc_id)
        where = {**self._here, "doc_id": doc_id}
        current = current_pieces(self._tx, version_extents, "version_id", where)
        recorded = self._ledger.next(recorded_at)
        span = _ended(recorded, valid_from, valid_to)
        change = splice(current, span, None)
        if not change.close:
            return False
        self._ledger.give(recorded)
        self._lay_versions(where, current, change, recorded)
        self._event("end", recorded, {"doc_id": doc_id, **_told(span)})
        return True

    def fact(self, row: FactIn) -> bool:
        """Record a fact; False if the newest record says so already. Raises InvalidDocument like `document`."""
        check_text(row.question, row.answer, row.question_id, row.source, *row.also_accepted, *row.phrasings)
        question = row.question_key(self._tenant, self._collection)
        recorded = self._ledger.next(row.recorded_at)
        current = current_pieces(self._tx, fact_extents, "fact_id", {"question_key": question})
        fact = row.fact_id(self._tenant, self._collection)
        start = OPEN_START if row.valid_from is None else row.valid_from
        change = splice(current, _span(current, start, row.valid_to), fact)
        asked = self._unasked(row, question)
        if not change.add and not asked:
            return False
        self._ledger.give(recorded)
        self._ask(row, question, asked, recorded)
        if change.add:
            self._answer(row, question, fact, current, change, recorded)
        return True

    def _answer(
        self,
        row: FactIn,
        question: str,
        fact: str,
        current: Sequence[Piece[str]],
        change: Splice[str],
        recorded: int,
    ) -> None:
        self._tx.execute(
            insert_new(self._tx, facts).values(
                fact_id=fact,
                question_key=question,
                answer=row.answer,
                also_accepted=list(row.also_accepted),
                source=row.source,
            )
        )
        self._lay_facts(question, current, change, recorded)
        self._event("fact", recorded, {"question_key": question, "fact_id": fact})

    def end_fact(
        self, question: str, valid_from: int | None = None, valid_to: int | None = None, recorded_at: int | None = None
    ) -> bool:
        """Withdraw the answers to the canonical question of this key over a span, as `end` does for a document."""
        current = current_pieces(self._tx, fact_extents, "fact_id", {"question_key": question})
        recorded = self._ledger.next(recorded_at)
        span = _ended(recorded, valid_from, valid_to)
        change = splice(current, span, None)
        if not change.close:
            return False
        self._ledger.give(recorded)
        self._lay_facts(question, current, change, recorded)
        self._event("fact_end", recorded, {"question_key": question, **_told(span)})
        return True

    def close(self, *files: VectorFile) -> int:
        """Make the vector files count; returns the newest record time of the collection."""
        for file in files:
            self._vector_file(file)
        return self._ledger.close()

    def _lay_versions(
        self, where: dict[str, str], current: Sequence[Piece[str]], change: Splice[str], recorded: int
    ) -> None:
        write_splice(self._tx, version_extents, "version_id", where, change, recorded)
        after = apply_splice(current, change)
        self.passages += write_passages(self._tx, where, after, recorded)
        entity = {**self._here, "view": DOCUMENTS, "entity": where["doc_id"]}
        write_statements(self._tx, entity, after, change, recorded)

    def _lay_facts(self, question: str, current: Sequence[Piece[str]], change: Splice[str], recorded: int) -> None:
        write_splice(self._tx, fact_extents, "fact_id", {"question_key": question}, change, recorded)
        entity = {**self._here, "view": FACTS, "entity": question}
        write_statements(self._tx, entity, apply_splice(current, change), change, recorded)

    def _check_kept(self, doc_id: str) -> None:
        if doc_id in self._erasing:
            raise InvalidDocument(f"document {doc_id!r} is being erased; send it again once that is done")

    def _vector_file(self, file: VectorFile) -> None:
        if not file.item_ids:
            return
        self._tx.execute(
            insert(vector_files).values(file_id=file.file_id, encoder=file.encoder, rows=len(file.item_ids))
        )
        rows = [{"item_id": item, "encoder": file.encoder, "file_id": file.file_id} for item in file.item_ids]
        self._tx.execute(insert_new(self._tx, vectors), rows)

    def _describe(self, row: DocumentIn, version: str) -> None:
        known = self._tx.execute(select(versions.c.version_id).where(versions.c.version_id == version))
        if known.one_or_none() is not None:
            return
        self._tx.execute(
            insert(versions).values(
                version_id=version,
                **self._here,
                doc_id=row.doc_id,
                title=row.title,
                uri=row.uri,
                text=row.text,
                metadata=dict(row.metadata),
                dated=row.valid_from is not None,
                pages=list(row.pages),
            )
        )
        named = [(row.passage_id(self._tenant, self._collection, chunk), chunk) for chunk in row.passages]
        if not named:
            return
        self._tx.execute(
            insert_new(self._tx, passages),
            [
                {"passage_id": passage, **self._here, "doc_id": row.doc_id, "embedded": chunk.embedded}
                for passage, chunk in {passage: (passage, chunk) for passage, chunk in named}.values()
            ],
        )
        self._tx.execute(
            insert(occurrences),
            [
                {
                    "version_id": version,
                    "ordinal": chunk.ordinal,
                    "passage_id": passage,
                    "section": list(chunk.section),
                    "start": chunk.start,
                    "end": chunk.end,
                }
                for passage, chunk in named
            ],
        )

    def _unasked(self, row: FactIn, question: str) -> dict[str, str]:
        """The question and its phrasings, by key, as far as they are not on record. Its first text is the one kept."""
        texts = {question: row.question, **row.phrased(self._tenant, self._collection)}
        known = select(questions.c.question_key).where(questions.c.question_key.in_(texts))
        kept = set(self._tx.execute(known).scalars())
        return {key: text for key, text in texts.items() if key not in kept}

    def _ask(self, row: FactIn, question: str, asked: Mapping[str, str], recorded: int) -> None:
        for key, text in asked.items():
            self._tx.execute(
                insert(questions).values(
                    question_key=key,
                    **self._here,
                    question_id=row.question_id,
                    question=text,
                    digest=digest(text),
                    recorded_at=recorded,
                    phrasing_of=None if key == question else question,
                )
            )

    def _event(self, kind: str, recorded: int, payload: dict[str, str]) -> None:
        row = {"event_id": str(uuid.uuid4()), **self._here, "recorded_at": recorded, "kind": kind, "payload": payload}
        self._tx.execute(insert(events).values(row))


def _span(current: Sequence[Piece[str]], start: int, end: int | None) -> Span:
    """The span an assertion covers. An undated one starts at its record time, which its end may not precede."""
    if end is not None and end <= start:
        raise InvalidDocument(
            f"valid_to {format_instant(end)} does not follow the start, {format_instant(start)}; give a valid_from"
        )
    return assertion_span(current, start, end)


def _ended(recorded: int, start: int | None, end: int | None) -> Span:
    """The span a withdrawal covers. Its ends are as given: what lies beyond is no bound to it."""
    span = Span(recorded if start is None else start, OPEN_END if end is None else end)
    if span.end <= span.start:
        raise InvalidDocument(f"valid_to {format_instant(span.end)} does not follow {format_instant(span.start)}")
    return span


def _told(span: Span) -> dict[str, str]:
    return {"valid_from": format_instant(span.start), "valid_to": format_instant(span.end)}


def _says_undated(current: Sequence[Piece[str]], version: str, recorded: int, end: int | None) -> bool:
    """Whether the newest record has the undated version already, now or up to the same end.

    One it had only before is said anew: the document has gone back to it.
    """
    same = [piece.valid for piece in current if piece.content == version]
    return any(recorded in valid or valid.end == end for valid in same)
