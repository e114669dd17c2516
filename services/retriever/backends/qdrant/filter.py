"""Conditions as a filter of the server."""

from __future__ import annotations

from qdrant_client import models

from services.retriever.visibility import AnyOf, Conditions, Within


def rendered(conditions: Conditions) -> models.Filter:
    return models.Filter(
        must=[_condition(one) for one in conditions.must], must_not=[_condition(one) for one in conditions.must_not]
    )


def _condition(one: AnyOf | Within) -> models.FieldCondition:
    if isinstance(one, Within):
        return models.FieldCondition(key=one.key, range=models.Range(lte=one.at_most, gt=one.above))
    if len(one.values) == 1:
        return models.FieldCondition(key=one.key, match=models.MatchValue(value=one.values[0]))
    values: list[str] | list[int] = list(one.values)  # type: ignore[assignment]
    return models.FieldCondition(key=one.key, match=models.MatchAny(any=values))
