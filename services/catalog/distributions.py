"""How questions and their answers were distributed, hour by hour: counts in fixed bins, without any text.

Worked out once from the answers of an hour, when it has long been over, and kept when they are gone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, func, select

from services.catalog.answers import DONE
from services.catalog.inserts import insert_new
from services.catalog.tables import answers, collections, distributions
from services.common.moment import now

HOUR_US = 3_600_000_000
SETTLED_US = 600_000_000
"""An answer of an hour may be recorded so long after it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is counted of each answer. There is one bin more than there are edges; a value at an edge lies above it."""

    title: str
    bins: tuple[str, ...]
    edges: tuple[float, ...] = ()


def _between(*edges: float) -> tuple[tuple[str, ...], tuple[float, ...]]:
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return (f"below {edges[0]:g}", *inner, f"{edges[-1]:g} and more"), edges


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "question_words": Measure("Words of a question", *_between(3, 5, 7, 9, 11, 14, 18, 24, 40)),
        "similarity": Measure("Best cosine of a passage", *_between(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
        "grounding": Measure("Grounding of an answer", ("generated", "quoted", "abstained")),
        "citations": Measure("Citations of an answer", *_between(1, 2, 3, 4, 6)),
    }
)

Counts = dict[str, list[int]]
"""Measure → how many answers lie in each of its bins."""


def roll_up(tx: Connection) -> int:
    """Count the answers of every hour that is over and not yet counted; returns how many hours with answers were."""
    end = (now() - SETTLED_US) // HOUR_US * HOUR_US
    tenants = tx.execute(select(collections.c.tenant).distinct()).scalars().all()
    return sum(_roll_up(tx, tenant, end) for tenant in tenants)


def _roll_up(tx: Connection, tenant: str, end: int) -> int:
    last = tx.execute(select(func.max(distributions.c.hour)).where(distributions.c.tenant == tenant)).scalar()
    since = 0 if last is None else int(last) + HOUR_US
    counted = _counted(tx, tenant, since, end)
    for (collection, hour), counts in counted.items():
        here = {"tenant": tenant, "collection": collection, "hour": hour}
        tx.execute(
            insert_new(tx, distributions), [{**here, "measure": name, "counts": n} for name, n in counts.items()]
        )
    return len({hour for _, hour in counted})


def distribution(tx: Connection, tenant: str, collection: str, since: int, until: int) -> Counts:
    """The counts of answers given in [since, until), to the hour; hours that are not settled yet as they stand."""
    total = _nothing()
    here = (distributions.c.tenant == tenant, distributions.c.collection == collection)
    within = (distributions.c.hour >= since, distributions.c.hour < until)
    for row in tx.execute(select(distributions.c.measure, distributions.c.counts).where(*here, *within)):
        _add(total, row.measure, row.counts)
    last = tx.execute(select(func.max(distributions.c.hour)).where(distributions.c.tenant == tenant)).scalar()
    fresh = _counted(tx, tenant, max(since, -1 if last is None else int(last) + HOUR_US), until)
    for (name, _), counts in fresh.items():
        if name == collection:
            for measure, numbers in counts.items():
                _add(total, measure, numbers)
    return total


def _counted(tx: Connection, tenant: str, since: int, until: int) -> dict[tuple[str, int], Counts]:
    """(collection, hour) → counts."""
    found: defaultdict[tuple[str, int], Counts] = defaultdict(_nothing)
    query = select(answers.c.collection, answers.c.created_at, answers.c.record).where(
        answers.c.tenant == tenant,
        answers.c.created_at >= since,
        answers.c.created_at < until,
        answers.c.state == DONE,
    )
    for row in tx.execute(query.execution_options(yield_per=500)):
        counts = found[row.collection, row.created_at // HOUR_US * HOUR_US]
        for name, at in _bins(row.record).items():
            counts[name][at] += 1
    return dict(found)


def _bins(record: Mapping[str, Any]) -> dict[str, int]:
    """In which bin of each measure an answer lies; one without a passage has no similarity."""
    values = {
        "question_words": len(str(record["question"]).split()),
        "citations": len(record["citations"]),
        "similarity": record.get("similarity"),
    }
    found = {name: bisect_right(MEASURES[name].edges, value) for name, value in values.items() if value is not None}
    return {**found, "grounding": MEASURES["grounding"].bins.index(record["grounding"])}


def _nothing() -> Counts:
    return {name: [0] * len(measure.bins) for name, measure in MEASURES.items()}


def _add(total: Counts, name: str, counts: list[int]) -> None:
    """Counts of a measure that is none any more, or has other bins now, say nothing."""
    if len(total.get(name, ())) == len(counts):
        total[name] = [a + b for a, b in zip(total[name], counts, strict=True)]
