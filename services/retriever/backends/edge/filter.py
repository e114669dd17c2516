"""What a query may see, as a filter of the embedded engine."""

from __future__ import annotations

from typing import Any

import qdrant_edge as qe

from services.common.nodes.retriever import Query
from services.retriever import visibility
from services.retriever.visibility import INTEGERS, KEYWORDS, AnyOf, Conditions, Within, pair

__all__ = ["INTEGERS", "KEYWORDS", "of_collection", "of_document", "pair", "visible"]


def visible(query: Query) -> qe.Filter:
    """The points of the query's tenant, collection and target, at its moment, passing its filters."""
    return _rendered(visibility.of_query(query))


def of_document(tenant: str, collection: str, doc_id: str) -> qe.Filter:
    """Every point of a document's passages, whatever its extent."""
    return _rendered(visibility.of_document(tenant, collection, doc_id))


def of_collection(tenant: str, collection: str) -> qe.Filter:
    """Every point of a collection, whatever its target and extent."""
    return _rendered(visibility.of_collection(tenant, collection))


def _rendered(conditions: Conditions) -> qe.Filter:
    return qe.Filter(
        must=[_condition(one) for one in conditions.must], must_not=[_condition(one) for one in conditions.must_not]
    )


def _condition(one: AnyOf | Within) -> qe.FieldCondition:
    if isinstance(one, Within):
        return qe.FieldCondition(one.key, range=qe.RangeFloat(lte=one.at_most, gt=one.above))
    if len(one.values) == 1:
        return qe.FieldCondition(one.key, match=qe.MatchValue(one.values[0]))
    values: list[Any] = list(one.values)
    return qe.FieldCondition(one.key, match=qe.MatchAny(values))
