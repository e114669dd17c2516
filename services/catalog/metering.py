"""What tenants used, from the records of their answers and the log of their searches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, func, select

from services.catalog.answers import DONE, FAILED
from services.catalog.events import SEARCH
from services.catalog.tables import answers, events

DAY_US = 86_400_000_000
_USAGE = (
    "prompt_tokens",
    "completion_tokens",
    "encoder_texts",
    "engine_ms",
    "saved_tokens",
    "saved_texts",
    "saved_ms",
)
"""What an answer's record says of its cost."""


@dataclass(frozen=True, slots=True)
class Used:
    """One tenant's day: its beginning in microseconds since the epoch, UTC, and what was counted in it.

    Searches are those that found something; answers those that ended, well or badly. What they cost: tokens, texts
    encoded, milliseconds of the generator's engine; what was saved by those that were `cached`, of the same.
    """

    tenant: str
    day: int
    answers: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    encoder_texts: int = 0
    engine_ms: int = 0
    cached: int = 0
    saved_tokens: int = 0
    saved_texts: int = 0
    saved_ms: int = 0
    searches: int = 0


def by_day(tx: Connection, tenant: str | None, since: int) -> list[Used]:
    """Of the tenant, or of everybody, from the day of `since` on, day after day."""
    found = {(used.day, used.tenant): used for used in _answered(tx, tenant, since)}
    for name, day, searches in _searched(tx, tenant, since):
        found[day, name] = replace(found.get((day, name), Used(name, day)), searches=searches)
    return [used for _, used in sorted(found.items())]


def _answered(tx: Connection, tenant: str | None, since: int) -> Iterator[Used]:
    day = answers.c.created_at // DAY_US
    counted = {
        "answers": func.count().filter(answers.c.state == DONE),
        "failed": func.count().filter(answers.c.state == FAILED),
        "cached": func.count().filter(answers.c.record["cached_from"].as_string() != ""),
        **{kind: func.sum(answers.c.record["usage"][kind].as_integer()) for kind in _USAGE},
    }
    query = (
        select(answers.c.tenant, day, *counted.values())
        .where(answers.c.created_at >= since, answers.c.state.in_((DONE, FAILED)), *_of(answers.c.tenant, tenant))
        .group_by(answers.c.tenant, day)
    )
    for name, number, *counts in tx.execute(query):
        given = zip(counted, counts, strict=True)
        yield Used(name, int(number) * DAY_US, **{kind: int(count or 0) for kind, count in given})


def _searched(tx: Connection, tenant: str | None, since: int) -> Iterator[tuple[str, int, int]]:
    at = cast(events.c.payload["at"].as_string(), BigInteger)
    query = (
        select(events.c.tenant, (at // DAY_US).label("day"), func.count())
        .where(events.c.kind == SEARCH, at >= since, *_of(events.c.tenant, tenant))
        .group_by(events.c.tenant, "day")
    )
    for name, number, count in tx.execute(query):
        yield name, int(number) * DAY_US, int(count)


def _of(column: ColumnElement[Any], tenant: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if tenant is None else (column == tenant,)
