"""A batch of searches: those that may see the same rows are done together."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.common.moment import Moment
from services.common.nodes.retriever import Query, Stage
from services.retriever.backends.base import Candidates
from services.retriever.backends.rows.allowed import Allowed
from services.retriever.backends.rows.bits import Bits
from services.retriever.backends.rows.dense import DenseStage
from services.retriever.backends.rows.items import Asked, Searched, place_of
from services.retriever.backends.rows.lexical import LexicalStage
from services.retriever.backends.rows.segment import Place, Segment

Group = tuple[Place, Moment, tuple[tuple[str, tuple[str, ...]], ...], bool]


def search(segment: Segment, dense: DenseStage, lexical: LexicalStage, asked: Sequence[Asked]) -> list[Candidates]:
    """For each its candidates. What is visible is found once for all that see the same, and counts as the first
    stage's time."""
    groups: dict[Group, list[int]] = defaultdict(list)
    for at, (query, _) in enumerate(asked):
        groups[_group(query)].append(at)
    found: dict[int, Candidates] = {}
    for together in groups.values():
        found.update(_search_group(segment, dense, lexical, {at: asked[at] for at in together}))
    return [found[at] for at in range(len(asked))]


def _search_group(
    segment: Segment, dense: DenseStage, lexical: LexicalStage, asked: dict[int, Asked]
) -> dict[int, Candidates]:
    began = time.perf_counter()
    first = next(iter(asked.values()))[0]
    table = segment.table(place_of(first))
    points = len(table) if table else 0
    allowed = _visible(segment, first)
    took = (time.perf_counter() - began) * 1000
    with_vector = [at for at, (query, _) in asked.items() if query.vector is not None]
    with_text = [at for at, (query, _) in asked.items() if query.text]
    near = dict(zip(with_vector, dense.search([asked[at] for at in with_vector], allowed, points), strict=True))
    matching = dict(zip(with_text, lexical.search([asked[at] for at in with_text], allowed, points), strict=True))
    return {at: _both(near.get(at), matching.get(at), took) for at in asked}


def _visible(segment: Segment, query: Query) -> Allowed:
    place = place_of(query)
    table = segment.table(place)
    if table is None:
        return Allowed.none()
    seen = table.visible(query.scope.moment)
    for key, values in query.filters.items():
        labelled = np.isin(table.rows, segment.labelled(place, key, values), assume_unique=True)
        seen = seen & Bits.of(labelled)
    return Allowed(table.rows, seen, segment.rows)


def _both(dense: Searched | None, lexical: Searched | None, took: float) -> Candidates:
    """took: milliseconds for what is visible."""
    found = [one for one in (dense, lexical) if one is not None]
    plan: list[Stage] = [replace(stage, ms=stage.ms + (0 if at else took)) for at, (_, stage) in enumerate(found)]
    return Candidates(dense[0] if dense else (), lexical[0] if lexical else (), plan)


def _group(query: Query) -> Group:
    filters = tuple(sorted((key, tuple(values)) for key, values in query.filters.items()))
    return place_of(query), query.scope.moment, filters, query.exact
