"""The log of how documents were used: retrieved by searches, cited by answers, found helpful or not.

Whoever sees an event writes it at once, by an insert that takes no lock and no record time; its id is derived from its
cause, so that writing it again changes nothing. It waits, `recorded_at` being WAITING + the instant from which on it
counts, until the worker gives all that are due one record time (`record`). If each had one of its own, commits would
queue for the collection's lock behind searches, and every reader of the record, the index too, would have to follow
each of them. Feedback is due at once; what was retrieved and cited, when its hour is over.

No text of questions or documents goes into the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exists, or_, select, update

from services.catalog import answers as answering
from services.catalog import jobs as working
from services.catalog.erasing import Erasure, under_way
from services.catalog.inserts import insert_new
from services.catalog.ledger import Ledger
from services.catalog.records import key
from services.catalog.tables import answers, collections, events, jobs, usage, versions
from services.catalog.usage import HOUR_US, rounded_up
from services.common.batches import batched
from services.common.errors import AnswerNotFound, Conflict
from services.common.moment import OPEN_END, now
from services.common.nodes.usage import CITED, HELPFUL, RETRIEVED, UNHELPFUL

SEARCH, ANSWER, FEEDBACK = KINDS = ("search", "answer", "feedback")
WAITING = OPEN_END
_NAMES = 500
"""Names in one query; databases limit them."""
MOST_WORDS = 100
"""How often one user may say something else about one answer."""
MOST_AT_ONCE = 10_000
"""Events that get their record time in one transaction."""


@dataclass(frozen=True, slots=True)
class Search:
    """A search at an instant, and the documents it gave, best first. The id names the request."""

    search_id: str
    tenant: str
    collection: str
    at: int
    documents: Sequence[str]


@dataclass(frozen=True, slots=True)
class Word:
    """What a user says of an answer."""

    helpful: bool
    note: str = ""


_HELD = (
    select(versions.c.doc_id)
    .distinct()
    .where(
        versions.c.tenant == bindparam("tenant"),
        versions.c.collection == bindparam("collection"),
        versions.c.doc_id.in_(bindparam("names", expanding=True)),
    )
)


def searched(tx: Connection, searches: Iterable[Search]) -> None:
    """Log searches."""
    for search in searches:
        payload = {"at": search.at, "retrieved": _kept(tx, search.tenant, search.collection, search.documents)}
        _append(tx, key("search", search.search_id), search.tenant, search.collection, SEARCH, payload)


def record_answer(tx: Connection, answer_id: str, attempt: int, state: str, found: Mapping[str, Any], at: int) -> bool:
    """Record an answer's outcome at an instant, as services.catalog.answers does, and log what it used."""
    recorded = answering.record(tx, answer_id, attempt, state, found)
    if recorded is not None and state == answering.DONE:
        _answered(tx, *recorded, answer_id, found, at)
    return recorded is not None


def judged(tx: Connection, tenant: str, user: str, answer_id: str, word: Word, at: int) -> bool:
    """Log what a user says of an answer at an instant; False if it is what the user said last. The last word counts.

    Raises AnswerNotFound, Conflict for a user who changes their mind too often.
    """
    mine = (answers.c.tenant == tenant, answers.c.answer_id == answer_id, answers.c.state == answering.DONE)
    answer = tx.execute(select(answers.c.collection, answers.c.record).where(*mine).with_for_update()).one_or_none()
    if answer is None:
        raise AnswerNotFound(f"there is no finished answer {answer_id[:64]!r}")
    ids = [key("feedback", answer_id, user, str(number)) for number in range(MOST_WORDS)]
    said = {row.event_id: row.payload for row in tx.execute(select(events).where(events.c.event_id.in_(ids)))}
    last = said[ids[len(said) - 1]] if said else None
    if last is not None and Word(last["helpful"], last["note"]) == word:
        return False
    if len(said) == MOST_WORDS:
        raise Conflict(f"something else was said of this answer {MOST_WORDS} times already; the last word stays")
    payload = {
        "at": max(at, last["at"] + 1) if last else at,
        "answer_id": answer_id,
        "user": user,
        "helpful": word.helpful,
        "note": word.note,
        "cited": _cited(answer.record),
        "instead": {"at": last["at"], "helpful": last["helpful"]} if last else None,
    }
    _append(tx, ids[len(said)], tenant, answer.collection, FEEDBACK, payload)
    return True


def due(tx: Connection) -> list[tuple[str, str]]:
    """(tenant, collection) where events wait that are due. One whose past is still being imported is left alone."""
    waits = exists().where(
        events.c.tenant == collections.c.tenant,
        events.c.collection == collections.c.collection,
        events.c.recorded_at > WAITING,
        events.c.recorded_at <= WAITING + now(),
    )
    imported = or_(jobs.c.state.is_(None), jobs.c.state.in_((working.DONE, working.CANCELLED)))
    query = (
        select(collections.c.tenant, collections.c.collection)
        .outerjoin(jobs, jobs.c.job_id == collections.c.history_job)
        .where(waits, imported)
    )
    return [(tenant, name) for tenant, name in tx.execute(query)]


def record(tx: Connection, tenant: str, collection: str) -> int:
    """Give the events of a collection that are due one record time and count them; returns how many there were."""
    ledger = Ledger(tx, tenant, collection)
    query = (
        select(events)
        .where(*_here(events, tenant, collection), events.c.recorded_at > WAITING)
        .where(events.c.recorded_at <= WAITING + now())
        .order_by(events.c.recorded_at, events.c.event_id)
        .limit(MOST_AT_ONCE)
    )
    rows = tx.execute(query).all()
    if rows:
        recorded = ledger.next()
        ledger.give(recorded)
        ledger.close()
        noted = update(events).where(events.c.event_id == bindparam("one")).values(recorded_at=recorded)
        tx.execute(noted, [{"one": row.event_id} for row in rows])
        _count(tx, tenant, collection, recorded, rows)
    return len(rows)


def scrub(tx: Connection, erasure: Erasure, after: str, limit: int) -> str:
    """Take a document out of the next events and out of what is counted, and out notes on answers that cite it.

    Returns the id to go on after, which is empty at the end.
    """
    Ledger(tx, erasure.tenant, erasure.collection)  # so that nothing is being counted meanwhile
    tx.execute(delete(usage).where(*_here(usage, erasure.tenant, erasure.collection), usage.c.doc_id == erasure.doc_id))
    query = (
        select(events.c.event_id, events.c.payload)
        .where(*_here(events, erasure.tenant, erasure.collection), events.c.kind.in_(KINDS), events.c.event_id > after)
        .order_by(events.c.event_id)
        .limit(limit)
    )
    rows = tx.execute(query).all()
    for row in rows:
        if (scrubbed := _without(row.payload, erasure.doc_id)) != row.payload:
            tx.execute(update(events).where(events.c.event_id == row.event_id).values(payload=scrubbed))
    return rows[-1].event_id if len(rows) == limit else ""


def counts_from(kind: str, at: int) -> int:
    """The instant of valid time from which on an event counts: feedback at once, the rest when its hour is over."""
    return at if kind == FEEDBACK else rounded_up(at + 1, HOUR_US)


def uses(kind: str, payload: Mapping[str, Any]) -> Counter[tuple[str, str, int, int]]:
    """How often the event says (document, measure, since, began), as services.catalog.usage counts them."""
    since = counts_from(kind, payload["at"])
    found: Counter[tuple[str, str, int, int]] = Counter()
    if kind == FEEDBACK:
        found.update((document, _measure(payload), since, since) for document in payload["cited"])
        if earlier := payload["instead"]:
            found.subtract((document, _measure(earlier), since, earlier["at"]) for document in payload["cited"])
        return found
    for measure in (RETRIEVED, CITED):
        found.update((document, measure, since, since) for document in payload.get(measure, ()))
    return found


def _count(tx: Connection, tenant: str, collection: str, recorded: int, rows: Sequence[Row[Any]]) -> None:
    total: Counter[tuple[str, str, int, int]] = Counter()
    for row in rows:
        for used, times in uses(row.kind, row.payload).items():
            total[used] += times
    named = sorted({document for document, *_ in total})
    kept = set(_kept(tx, tenant, collection, named)) - under_way(tx, tenant, collection)
    here = {"tenant": tenant, "collection": collection, "recorded_at": recorded}
    counted = [
        {**here, "doc_id": document, "measure": measure, "since": since, "began": began, "times": times}
        for (document, measure, since, began), times in total.items()
        if times and document in kept
    ]
    if counted:
        tx.execute(usage.insert(), counted)


def _answered(tx: Connection, tenant: str, collection: str, answer_id: str, found: Mapping[str, Any], at: int) -> None:
    payload = {
        "at": at,
        "answer_id": answer_id,
        "retrieved": _kept(tx, tenant, collection, found.get("retrieved", ())),
        "cited": _cited(found),
    }
    if payload["retrieved"] or payload["cited"]:
        _append(tx, key("answer", answer_id), tenant, collection, ANSWER, payload)


def _append(tx: Connection, event_id: str, tenant: str, collection: str, kind: str, payload: dict[str, Any]) -> None:
    row = {
        "event_id": event_id,
        "tenant": tenant,
        "collection": collection,
        "recorded_at": WAITING + counts_from(kind, payload["at"]),
        "kind": kind,
        "payload": payload,
    }
    tx.execute(insert_new(tx, events), row)


def _kept(tx: Connection, tenant: str, collection: str, documents: Iterable[str]) -> list[str]:
    """Each document once, and none that has been erased since."""
    wanted = list(dict.fromkeys(documents))
    here = {"tenant": tenant, "collection": collection}
    held = {
        name for part in batched(wanted, _NAMES) for name in tx.execute(_HELD, {**here, "names": list(part)}).scalars()
    }
    return [document for document in wanted if document in held]


def _cited(found: Mapping[str, Any]) -> list[str]:
    """The documents that an answer's text refers to, each once. A fact has none, and evidence may go unused."""
    numbers = answering.references(found.get("answer", ""))
    named = [str(citation["doc_id"]) for citation in found.get("citations", ()) if citation["n"] in numbers]
    return [document for document in dict.fromkeys(named) if document]


def _measure(word: Mapping[str, Any]) -> str:
    return HELPFUL if word["helpful"] else UNHELPFUL


def _without(payload: Mapping[str, Any], doc_id: str) -> dict[str, Any]:
    found = dict(payload)
    for name in (RETRIEVED, CITED):
        if doc_id in found.get(name, ()):
            found[name] = [document for document in found[name] if document != doc_id]
            found.update({"note": ""} if found.get("note") else {})
    return found


def _here(table: Any, tenant: str, collection: str) -> tuple[Any, Any]:
    return table.c.tenant == tenant, table.c.collection == collection
