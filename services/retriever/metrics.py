"""What the retriever counts."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Histogram

from services.common.metrics import REGISTRY, SECONDS
from services.common.nodes.retriever import Stage

STAGE_SECONDS = Histogram(
    "almanac_retriever_stage_seconds",
    "Seconds of a stage of the funnel, by its method.",
    ("stage", "method"),
    buckets=SECONDS,
    registry=REGISTRY,
)
BEHIND_SECONDS = Histogram(
    "almanac_retriever_behind_seconds",
    "Seconds a search waited for the index to reach its moment.",
    buckets=SECONDS,
    registry=REGISTRY,
)


def count(plan: Iterable[Stage]) -> None:
    """Count what each stage of a search took."""
    for stage in plan:
        STAGE_SECONDS.labels(stage.name, stage.method).observe(stage.ms / 1000)
