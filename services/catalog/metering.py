"""What tenants used, from the records of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from services.catalog.answers import DONE, FAILED
from services.catalog.tables import answers

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Used:
    """One tenant's day: its beginning in microseconds since the epoch, UTC, and what was counted in it."""

    tenant: str
    day: int
    answers: int
    failed: int
    prompt_tokens: int
    completion_tokens: int


def by_day(tx: Connection, tenant: str | None, since: int) -> list[Used]:
    """Of the tenant, or of everybody, day after day; answers that were asked from `since` on and have ended."""
    day = (answers.c.created_at // DAY_US).label("day")
    query = (
        select(
            answers.c.tenant,
            day,
            _count(answers.c.state == DONE),
            _count(answers.c.state == FAILED),
            _tokens("prompt_tokens"),
            _tokens("completion_tokens"),
        )
        .where(answers.c.created_at >= since, answers.c.state.in_((DONE, FAILED)))
        .group_by(answers.c.tenant, day)
        .order_by(day, answers.c.tenant)
    )
    rows = tx.execute(query if tenant is None else query.where(answers.c.tenant == tenant))
    return [Used(name, int(number) * DAY_US, *(int(value or 0) for value in counts)) for name, number, *counts in rows]


def _count(which: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.count().filter(which)


def _tokens(kind: str) -> ColumnElement[Any]:
    return func.sum(answers.c.record["usage"][kind].as_integer())
