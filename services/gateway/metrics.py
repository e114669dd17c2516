"""What the gateway counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """One application's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = here = CollectorRegistry()
        ProcessCollector(registry=here)
        labels = ("method", "route", "status")
        self.requests = Counter("almanac_http_requests", "HTTP requests by route and status.", labels, registry=here)
        self.request_seconds = Histogram(
            "almanac_http_request_seconds",
            "Seconds to the end of the response.",
            ("method", "route"),
            buckets=_FAST,
            registry=here,
        )
        self.first_text_seconds = Histogram(
            "almanac_answer_first_text_seconds",
            "Seconds from the question to its first released text.",
            buckets=_FAST,
            registry=here,
        )
        self.answers = Counter("almanac_answers", "Answers by grounding.", ("grounding",), registry=here)
        self.failures = Counter("almanac_answer_failures", "Answers that failed, by error.", ("type",), registry=here)
        self.degraded = Counter("almanac_answers_degraded", "Answers given without a node.", ("node",), registry=here)
        self.redispatched = Counter("almanac_answers_redispatched", "Answers sent to a second worker.", registry=here)

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Count a finished answer."""
        self.answers.labels(answer["grounding"]).inc()
        for node in answer["degraded"]:
            self.degraded.labels(node).inc()

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)
