"""What a query may see, as an engine filter that is exact to the microsecond."""

from __future__ import annotations

import json
import math
from typing import Any

import qdrant_edge as qe

from services.common.nodes.retriever import Query, Target

INTEGERS = ("valid_from", "valid_to", "recorded_from", "recorded_to")
KEYWORDS = ("tenant", "collection", "target", "metadata")

Conditions = list[Any]


def pair(key: str, value: str) -> str:
    """One metadata entry as one keyword, so that any key works and one index serves all of them."""
    return json.dumps([key, value], ensure_ascii=False)


def visible(query: Query) -> qe.Filter:
    """The points of the query's tenant, collection and target, at its moment, passing its filters."""
    scope, moment = query.scope, query.scope.moment
    equal = {"tenant": scope.tenant, "collection": scope.collection, "target": query.target.value}
    must: Conditions = [qe.FieldCondition(key, match=qe.MatchValue(value)) for key, value in equal.items()]
    for key, values in query.filters.items():
        passing = [pair(key, value) for value in values]
        must.append(qe.FieldCondition("metadata", match=qe.MatchAny(passing)))
    must_not: Conditions = []
    for axis, when in (("valid", moment.as_of), ("recorded", moment.known_at)):
        _at_most(f"{axis}_from", when, must, must_not)
        _above(f"{axis}_to", when, must, must_not)
    return qe.Filter(must=must, must_not=must_not)


def of_document(tenant: str, collection: str, doc_id: str) -> qe.Filter:
    """Every point of a document's passages, whatever its extent."""
    equal = {"tenant": tenant, "collection": collection, "target": Target.PASSAGES.value, "doc_id": doc_id}
    return qe.Filter(must=[qe.FieldCondition(key, match=qe.MatchValue(value)) for key, value in equal.items()])


def _at_most(key: str, when: int, must: Conditions, must_not: Conditions) -> None:
    """Ranges take float64, which holds every microsecond of the years 1685 to 2255 only. Elsewhere the bound moves
    outwards to the next float64 (by 32 µs at most) and the integers in between are excluded by name."""
    bound = float(when)
    if int(bound) < when:
        bound = math.nextafter(bound, math.inf)
    must.append(qe.FieldCondition(key, range=qe.RangeFloat(lte=bound)))
    _exclude(key, range(when + 1, int(bound) + 1), must_not)


def _above(key: str, when: int, must: Conditions, must_not: Conditions) -> None:
    bound = float(when)
    if int(bound) > when:
        bound = math.nextafter(bound, -math.inf)
    must.append(qe.FieldCondition(key, range=qe.RangeFloat(gt=bound)))
    _exclude(key, range(int(bound) + 1, when + 1), must_not)


def _exclude(key: str, between: range, must_not: Conditions) -> None:
    if between:
        must_not.append(qe.FieldCondition(key, match=qe.MatchAny(list(between))))
