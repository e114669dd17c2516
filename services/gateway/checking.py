"""`features check`: are the views fresh, are their values sound, and is what is asked still what used to be asked?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from services.catalog.distributions import HOUR_US, MEASURES, Counts, distribution
from services.catalog.profiles import PROFILE_VIEWS, newest
from services.catalog.state import VIEWS, known_collections
from services.common.moment import OPEN_START, Span, format_instant, now
from services.common.nodes.features import PROFILES, ViewState
from services.gateway.context import Context
from services.gateway.drift import compare

SETTLE_US = 60_000_000
"""A view may be behind a record that is no older."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found, in words in `faults`, and as JSON in `details`."""

    faults: list[str]
    details: Json


async def check(context: Context, tenant: str, collection: str, window: int, reference: int) -> Found:
    """Views and values of the tenant; drift of the collection, over the last `window` microseconds against the
    `reference` microseconds before. Raises Unavailable without the features node."""
    states = await context.nodes.features.describe(tenant, statistics=True)
    records = await context.catalog.reading(lambda tx: _records(tx, tenant))
    parts = [_freshness(states, records), _values(states), await _drift(context, tenant, collection, window, reference)]
    faults = [fault for part in parts for fault in part.faults]
    found = {"holds": not faults, "faults": faults, "at": format_instant(now()), "collection": collection}
    for part in parts:
        found |= part.details
    context.metrics.checked(found)
    return Found(faults, found)


def _records(tx: Connection, tenant: str) -> list[tuple[str, str, int]]:
    """(view, collection, newest record) of all that a tenant's views have to keep up with."""
    names = [(name, recorded) for whose, name, recorded in known_collections(tx) if whose == tenant]
    held = [(view, name, recorded) for view in VIEWS for name, recorded in names]
    profile = newest(tx, tenant)
    return held + [(view, PROFILES, profile) for view in PROFILE_VIEWS if profile != OPEN_START]


def _freshness(states: Sequence[ViewState], records: Sequence[tuple[str, str, int]]) -> Found:
    marks = {(state.name, name): mark for state in states for name, mark in state.watermarks.items()}
    clock, faults, views = now(), [], []
    for view, name, recorded in records:
        mark = marks.get((view, name), OPEN_START)
        behind = max(0, clock - recorded) if mark < recorded else 0
        views.append({"view": view, "collection": name, "behind_seconds": behind / 1e6, "fresh": behind <= SETTLE_US})
        if behind > SETTLE_US:
            faults.append(f"{view} of {name!r} lacks what was recorded at {format_instant(recorded)}")
    return Found(faults, {"freshness": views})


def _values(states: Sequence[ViewState]) -> Found:
    faults = [f"{state.name}.{fault}" for state in states for field in state.fields for fault in field.faults]
    fields = [
        {"view": state.name, **asdict(field), "faults": field.faults} for state in states for field in state.fields
    ]
    return Found(faults, {"fields": fields})


async def _drift(context: Context, tenant: str, collection: str, window: int, reference: int) -> Found:
    until = now()
    since = (until - window) // HOUR_US * HOUR_US
    spans = Span(since - reference // HOUR_US * HOUR_US, since), Span(since, until)
    before, after = await context.catalog.reading(
        lambda tx: [distribution(tx, tenant, collection, span.start, span.end) for span in spans]
    )
    measures = [_measured(name, before, after) for name in MEASURES]
    faults = [
        f"{one['title'].lower()}: the last window differs from the reference, PSI {one['psi']:.2f}"
        for one in measures
        if one["shifted"]
    ]
    windows = {
        name: {"since": format_instant(span.start), "until": format_instant(span.end)}
        for name, span in zip(("reference", "window"), spans, strict=True)
    }
    return Found(faults, {"drift": {**windows, "measures": measures}})


def _measured(name: str, before: Counts, after: Counts) -> Json:
    shift, measure = compare(before[name], after[name]), MEASURES[name]
    return {
        "name": name,
        "title": measure.title,
        "bins": list(measure.bins),
        "reference": before[name],
        "current": after[name],
        "psi": shift.index if shift else None,
        "threshold": shift.threshold if shift else None,
        "shifted": bool(shift and shift.shifted),
    }
