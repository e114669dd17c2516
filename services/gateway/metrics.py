"""What the gateway counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.common.metrics import SECONDS


class Metrics:
    """One application's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = here = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("almanac_http_requests", "HTTP requests by route and status.", labels, registry=here)
        self.request_seconds = Histogram(
            "almanac_http_request_seconds",
            "Seconds to the end of the response.",
            ("method", "route"),
            buckets=SECONDS,
            registry=here,
        )
        self.first_text_seconds = Histogram(
            "almanac_answer_first_text_seconds",
            "Seconds from the question to its first released text.",
            buckets=SECONDS,
            registry=here,
        )
        self.answers = Counter("almanac_answers", "Answers by grounding.", ("grounding",), registry=here)
        self.failures = Counter("almanac_answer_failures", "Answers that failed, by error.", ("type",), registry=here)
        self.degraded = Counter("almanac_answers_degraded", "Answers given without a node.", ("node",), registry=here)
        self.cache = Counter(
            "almanac_cache", "Questions by what the answer cache did: hit, miss, refused.", ("state",), registry=here
        )
        self._costs = _Costs(here)
        self.redispatched = Counter("almanac_answers_redispatched", "Answers sent to a second worker.", registry=here)
        self.check_faults = Gauge(
            "almanac_features_check_faults", "What the last check of features found.", registry=here
        )
        self.checked_at = Gauge(
            "almanac_features_checked_timestamp_seconds", "When features were last checked.", registry=here
        )
        self.drift = Gauge(
            "almanac_features_drift",
            "Population stability index of the last check, by measure.",
            ("measure",),
            registry=here,
        )

    def checked(self, found: Mapping[str, Any]) -> None:
        """Show what the last check of features found, whoever asked for it."""
        self.check_faults.set(len(found["faults"]))
        self.checked_at.set_to_current_time()
        for measure in found["drift"]["measures"]:
            if measure["psi"] is not None:
                self.drift.labels(measure["name"]).set(measure["psi"])

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Count a finished answer."""
        self.answers.labels(answer["grounding"]).inc()
        for node in answer["degraded"]:
            self.degraded.labels(node).inc()
        self._costs.add(answer["usage"])

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Costs:
    """What answers cost, and what kept ones saved."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tokens = Counter(
            "almanac_answer_tokens", "Tokens that answers read and wrote.", ("kind",), registry=registry
        )
        self._encoder_texts = Counter(
            "almanac_answer_encoder_texts", "Texts encoded for answers: questions, sentences.", registry=registry
        )
        self._engine_seconds = Counter(
            "almanac_answer_engine_seconds", "Seconds that answers took of the generator.", registry=registry
        )
        self._saved_tokens = Counter(
            "almanac_cache_saved_tokens", "Tokens not spent because an answer was kept.", registry=registry
        )
        self._saved_seconds = Counter(
            "almanac_cache_saved_seconds",
            "Seconds of the generator not spent because an answer was kept.",
            registry=registry,
        )

    def add(self, usage: Mapping[str, int]) -> None:
        """Of one answer, by its record."""
        for kind in ("prompt", "completion"):
            self._tokens.labels(kind).inc(usage.get(f"{kind}_tokens", 0))
        self._encoder_texts.inc(usage.get("encoder_texts", 0))
        self._engine_seconds.inc(usage.get("engine_ms", 0) / 1000)
        self._saved_tokens.inc(usage.get("saved_tokens", 0))
        self._saved_seconds.inc(usage.get("saved_ms", 0) / 1000)
