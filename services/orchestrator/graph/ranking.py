"""The rank step: what is known of documents at the moment, weighed beside the fused scores of their passages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.errors import MomentViolation
from services.common.moment import Moment
from services.common.nodes.features import DOCUMENTS, FeatureRow
from services.common.nodes.scope import Scope
from services.common.nodes.usage import USAGE
from services.orchestrator.graph.executor import calling
from services.orchestrator.graph.nodes import Nodes

SECONDS = 2.0
"""How long an order by features is worth waiting for."""
DEPTH = 50
"""How many passages are ranked at least, so that one below the last asked for may come up."""
HALF_LIFE_US = 365 * 86_400_000_000
"""The age at which recency is a half."""
RETRIEVED_PRIOR, JUDGED_PRIOR = 10, 2
"""Uses that say nothing either way, added to those there were: additive smoothing (Laplace)."""

RECENCY, AUTHORITY, CITED, HELPFUL = FEATURES = ("recency", "authority", "cited", "helpful")
Weights = Mapping[str, float]
"""Feature → what its value is multiplied with before it is added to the fused score; one left out weighs nothing."""


@dataclass(frozen=True, slots=True)
class Feature:
    """recency: 2 to the power of −age/half-life, 0 if undated. authority: as the metadata say, in [0, 1].

    cited: citations per retrieval over 30 days, in [0, 1]. helpful: (helpful − unhelpful) / judged ever, in (−1, 1).
    """

    name: str
    value: float
    weight: float


async def features_at(
    nodes: Nodes, scope: Scope, documents: Sequence[str], weights: Weights
) -> dict[str, tuple[Feature, ...]]:
    """The features of each document at the moment, all of them, whether they weigh anything or not.

    Raises NodeFailed; MomentViolation for a row that the moment does not see.
    """
    wanted = list(dict.fromkeys(documents))
    with calling("features"):
        described, used = await asyncio.gather(
            *(nodes.features.read(scope, view, wanted) for view in (DOCUMENTS, USAGE))
        )
    for row in (*described, *used):
        _check(row, scope.moment)
    return {
        document: tuple(
            Feature(name, value, weights.get(name, 0.0)) for name, value in _values(one, use, scope.moment.as_of)
        )
        for document, one, use in zip(wanted, described, used, strict=True)
    }


def weighed(features: Sequence[Feature]) -> float:
    """What the features add to a fused score."""
    return sum(feature.weight * feature.value for feature in features)


def _values(document: FeatureRow, use: FeatureRow, as_of: int) -> list[tuple[str, float]]:
    return [
        (RECENCY, _recency(document, as_of)),
        (AUTHORITY, float(document.values.get("authority", 0.0))),
        (CITED, _count(use, "cited_30d") / (_count(use, "retrieved_30d") + RETRIEVED_PRIOR)),
        (HELPFUL, _balance(_count(use, "helpful_ever"), _count(use, "unhelpful_ever"))),
    ]


def _recency(document: FeatureRow, as_of: int) -> float:
    if not document.found or not document.values.get("dated"):
        return 0.0
    age = as_of - int(document.values["valid_from_us"])
    return float(2.0 ** (-age / HALF_LIFE_US))


def _balance(helpful: int, unhelpful: int) -> float:
    return (helpful - unhelpful) / (helpful + unhelpful + JUDGED_PRIOR)


def _count(use: FeatureRow, field: str) -> int:
    return int(use.values.get(field, 0))


def _check(row: FeatureRow, moment: Moment) -> None:
    if row.found and (row.event > moment.as_of or row.created > moment.known_at):
        raise MomentViolation("the features node gave a value that is not visible at the moment")
