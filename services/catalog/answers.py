"""Answers: asked, worked on by numbered attempts, recorded."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, Integer, String, bindparam, func, insert, select, update

from services.catalog.tables import answers, erasures
from services.common.errors import AnswerNotFound
from services.common.moment import now

ASKED, DONE, FAILED = "asked", "done", "failed"
_ANSWER, _ATTEMPT = bindparam("answer", type_=String), bindparam("number", type_=Integer)
_CREATE = insert(answers)
_RECORD = (
    update(answers)
    .where(answers.c.answer_id == _ANSWER, answers.c.attempt == _ATTEMPT, answers.c.state == ASKED)
    .returning(answers.c.tenant, answers.c.collection)
)
"""Statements of every answer's path are put together once: that costs more time than to run them."""
_REFERENCE = re.compile(r"\[(\d+(?:, ?\d+)*)\]")


def references(text: str) -> list[int]:
    """The citations that an answer's text refers to, by number, each once, in its order."""
    return list(dict.fromkeys(int(number) for group in _REFERENCE.findall(text) for number in group.split(",")))


@dataclass(frozen=True, slots=True)
class Stored:
    """A finished answer as asked and as given. erasures: of its collection, worked on since it was asked."""

    request: Mapping[str, Any]
    record: Mapping[str, Any]
    erasures: int


def create(tx: Connection, tenant: str, collection: str, request: Mapping[str, Any]) -> str:
    """A new answer's id, its row committed before it is enqueued; the request is kept with the id in it."""
    answer_id = str(uuid.uuid4())
    row = {
        "answer_id": answer_id,
        "tenant": tenant,
        "collection": collection,
        "state": ASKED,
        "attempt": 1,
        "request": {**request, "answer_id": answer_id},
        "record": None,
        "created_at": now(),
    }
    tx.execute(_CREATE, row)
    return answer_id


def asked(tx: Connection, tenant: str, answer_id: str) -> Mapping[str, Any]:
    """What was asked, whether or not it has been answered. Raises AnswerNotFound."""
    query = select(answers.c.request).where(answers.c.tenant == tenant, answers.c.answer_id == answer_id)
    found: Mapping[str, Any] | None = tx.execute(query).scalar_one_or_none()
    if found is None:
        raise AnswerNotFound(f"there is no answer {answer_id[:64]!r}")
    return found


def next_attempt(tx: Connection, answer_id: str) -> int:
    """Fence whoever works on the answer: from now on only the returned attempt may record it."""
    tx.execute(update(answers).where(answers.c.answer_id == answer_id).values(attempt=answers.c.attempt + 1))
    return int(tx.execute(select(answers.c.attempt).where(answers.c.answer_id == answer_id)).scalar_one())


def record(
    tx: Connection, answer_id: str, attempt: int, state: str, found: Mapping[str, Any]
) -> tuple[str, str] | None:
    """Record the outcome; the answer's tenant and collection, or None if a later attempt has taken over or it is
    recorded already."""
    outcome = {"answer": answer_id, "number": attempt, "state": state, "record": dict(found)}
    written = tx.execute(_RECORD, outcome).one_or_none()
    return None if written is None else (written.tenant, written.collection)


def give_up(tx: Connection, before: int, problem: Mapping[str, Any]) -> int:
    """End what was asked before an instant and is still without an outcome; how many answers that were."""
    # Spelled out in the statement: the index is over such rows alone.
    asked: BindParameter[str] = bindparam("asked", ASKED, literal_execute=True)
    late = (answers.c.state == asked, answers.c.created_at < before)
    return tx.execute(update(answers).where(*late).values(state=FAILED, record=dict(problem))).rowcount


def outcome(tx: Connection, answer_id: str) -> tuple[str, Mapping[str, Any]] | None:
    """The state and record of an answer that has ended, well or badly; None while it has not."""
    query = select(answers.c.state, answers.c.record).where(answers.c.answer_id == answer_id, answers.c.state != ASKED)
    row = tx.execute(query).one_or_none()
    return None if row is None else (row.state, row.record)


def get(tx: Connection, tenant: str, answer_id: str) -> Mapping[str, Any]:
    """The recorded answer. Raises AnswerNotFound."""
    query = select(answers.c.record).where(
        answers.c.tenant == tenant, answers.c.answer_id == answer_id, answers.c.state == DONE
    )
    found: Mapping[str, Any] | None = tx.execute(query).scalar_one_or_none()
    if found is None:
        raise AnswerNotFound(f"there is no finished answer {answer_id[:64]!r}")
    return found


def stored(tx: Connection, tenant: str, answer_id: str) -> Stored:
    """What is needed to give the answer again. Raises AnswerNotFound."""
    record = get(tx, tenant, answer_id)
    row = tx.execute(select(answers).where(answers.c.answer_id == answer_id)).one()
    here = (erasures.c.tenant == tenant, erasures.c.collection == row.collection)
    since = select(func.count()).select_from(erasures).where(*here, erasures.c.updated_at >= row.created_at)
    return Stored(row.request, record, int(tx.execute(since).scalar_one()))
