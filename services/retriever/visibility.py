"""What a query may see, as conditions on flat payload fields that any Qdrant engine can be given."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.nodes.retriever import Query, Target

INTEGERS = ("valid_from", "valid_to", "recorded_from", "recorded_to")
KEYWORDS = ("tenant", "collection", "target", "metadata")

_EXACT = 2**53
"""Below it float64 holds every integer (IEEE 754)."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field has one of the values."""

    key: str
    values: Sequence[str] | Sequence[int]


@dataclass(frozen=True, slots=True)
class Within:
    """The field is at most the one bound, above the other."""

    key: str
    at_most: float | None = None
    above: float | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """All of `must` and none of `must_not`."""

    must: Sequence[AnyOf | Within]
    must_not: Sequence[AnyOf] = ()


def pair(key: str, value: str) -> str:
    """One metadata entry as one keyword, so that any key works and one index serves all of them."""
    return json.dumps([key, value], ensure_ascii=False)


def of_query(query: Query) -> Conditions:
    """The points of the query's tenant, collection and target, at its moment, passing its filters."""
    scope, moment = query.scope, query.scope.moment
    must: list[AnyOf | Within] = [*_of_collection(scope.tenant, scope.collection), AnyOf("target", [query.target])]
    must += [AnyOf("metadata", [pair(key, value) for value in values]) for key, values in query.filters.items()]
    must_not: list[AnyOf] = []
    for axis, when in (("valid", moment.as_of), ("recorded", moment.known_at)):
        for within, excluded in (_at_most(f"{axis}_from", when), _above(f"{axis}_to", when)):
            must.append(within)
            must_not += [AnyOf(within.key, excluded)] if excluded else []
    return Conditions(must, must_not)


def of_document(tenant: str, collection: str, doc_id: str) -> Conditions:
    """Every point of a document's passages, whatever its extent."""
    passages = [AnyOf("target", [Target.PASSAGES]), AnyOf("doc_id", [doc_id])]
    return Conditions([*_of_collection(tenant, collection), *passages])


def of_collection(tenant: str, collection: str) -> Conditions:
    """Every point of a collection, whatever its target and extent."""
    return Conditions(_of_collection(tenant, collection))


def _of_collection(tenant: str, collection: str) -> list[AnyOf]:
    return [AnyOf("tenant", [tenant]), AnyOf("collection", [collection])]


def _at_most(key: str, when: int) -> tuple[Within, range]:
    """Ranges take float64, which holds every microsecond of the years 1685 to 2255 only. Elsewhere the bound moves
    outwards by a float64 or two (32 µs each at most), and the integers in between are excluded by name. That is exact
    whether the engine makes the bound an integer or the integer a float64."""
    bound = float(when)
    if abs(when) < _EXACT:
        return Within(key, at_most=bound), range(0)
    if int(bound) < when:
        bound = math.nextafter(bound, math.inf)
    return Within(key, at_most=bound), range(when + 1, int(math.nextafter(bound, math.inf)))


def _above(key: str, when: int) -> tuple[Within, range]:
    bound = float(when)
    if abs(when) < _EXACT:
        return Within(key, above=bound), range(0)
    if int(bound) > when:
        bound = math.nextafter(bound, -math.inf)
    bound = math.nextafter(bound, -math.inf)
    return Within(key, above=bound), range(int(bound) + 1, when + 1)
