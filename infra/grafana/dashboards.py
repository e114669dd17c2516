"""Dashboards as code: `python infra/grafana/dashboards.py` writes dashboards/*.json. A test holds them to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "dashboards"
_WIDTH, _HEIGHT = 12, 8

Panel = tuple[str, str, dict[str, str]]
"""Title, unit, and queries by legend."""


def quantile(metric: str, share: float, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[5m])))"


def rate(metric: str, by: str = "") -> str:
    return f"sum by ({by}) (rate({metric}[5m]))" if by else f"sum(rate({metric}[5m]))"


def share(part: str, whole: str) -> str:
    return f"{part} / {whole}"


def quantiles(metric: str, *shares: float) -> dict[str, str]:
    return {f"p{round(one * 100)}": quantile(metric, one) for one in shares}


_TOKENS = "almanac_generator_tokens_total"

DASHBOARDS: dict[str, list[Panel]] = {
    "Answers": [
        ("Answers a second", "ops", {"{{grounding}}": rate("almanac_answers_total", "grounding")}),
        ("Failures a second", "ops", {"{{type}}": rate("almanac_answer_failures_total", "type")}),
        ("Time to first text", "s", quantiles("almanac_answer_first_text_seconds", 0.5, 0.95, 0.99)),
        ("Step p95", "s", {"{{step}}": quantile("almanac_step_seconds", 0.95, "step")}),
        ("Answers without a node, a second", "ops", {"{{node}}": rate("almanac_answers_degraded_total", "node")}),
        ("Retries a second", "ops", {"{{step}}": rate("almanac_step_retries_total", "step")}),
        ("Fallbacks a second", "ops", {"{{step}}": rate("almanac_step_fallbacks_total", "step")}),
        ("Sent to a second worker, a second", "ops", {"answers": rate("almanac_answers_redispatched_total")}),
        ("Waiting questions", "short", {"{{queue}}": 'max by (queue) (almanac_queue_length{queue=~"answers.+"})'}),
        ("Requests a second", "ops", {"{{route}} {{status}}": rate("almanac_http_requests_total", "route, status")}),
        ("Request p95", "s", {"{{route}}": quantile("almanac_http_request_seconds", 0.95, "route")}),
    ],
    "Retrieval": [
        (
            "Stage p95",
            "s",
            {"{{stage}} {{method}}": quantile("almanac_retriever_stage_seconds", 0.95, "stage, method")},
        ),
        ("Stages a second", "ops", {"{{method}}": rate("almanac_retriever_stage_seconds_count", "method")}),
        ("Waiting for the index to reach the moment", "s", quantiles("almanac_retriever_behind_seconds", 0.5, 0.95)),
        ("Waiting for a batch of the encoder", "s", quantiles("almanac_encoder_wait_seconds", 0.5, 0.95)),
        (
            "Texts a batch",
            "short",
            {"mean": share(rate("almanac_encoder_batch_texts_sum"), rate("almanac_encoder_batch_texts_count"))},
        ),
    ],
    "Ingestion": [
        ("Waiting tasks", "short", {"{{queue}}": 'max by (queue) (almanac_queue_length{queue="ingest"})'}),
        ("Jobs ended a second", "ops", {"{{kind}} {{state}}": rate("almanac_jobs_total", "kind, state")}),
        ("Passages a second", "ops", {"passages": rate("almanac_ingested_passages_total")}),
        ("Waits for what does not answer, a second", "ops", {"{{kind}}": rate("almanac_job_retries_total", "kind")}),
    ],
    "Nodes": [
        ("Calls a second", "ops", {"{{method}} {{code}}": rate("almanac_grpc_calls_total", "method, code")}),
        ("Call p95", "s", {"{{method}}": quantile("almanac_grpc_call_seconds", 0.95, "method")}),
        ("Circuits (1 half-open, 2 open)", "short", {"{{node}}": "max by (node) (almanac_circuit_state)"}),
        ("Calls not made, a second", "ops", {"{{node}}": rate("almanac_circuit_refused_total", "node")}),
        (
            "Changes of circuits, a second",
            "ops",
            {"{{node}} {{state}}": rate("almanac_circuit_changes_total", "node, state")},
        ),
        ("Resident memory", "bytes", {"{{instance}}": "process_resident_memory_bytes"}),
        ("Processors in use", "short", {"{{instance}}": "rate(process_cpu_seconds_total[5m])"}),
    ],
    "Features": [
        ("Drift (population stability index)", "short", {"{{measure}}": "max by (measure) (almanac_features_drift)"}),
        ("Faults found by the last check", "short", {"faults": "sum(almanac_features_check_faults)"}),
        ("Since the last check", "s", {"all": "time() - max(almanac_features_checked_timestamp_seconds)"}),
    ],
    "Generator": [
        ("Running", "short", {"{{instance}}": "almanac_generator_running"}),
        ("Waiting", "short", {"{{instance}}": "almanac_generator_waiting"}),
        ("First text", "s", quantiles("almanac_generator_first_chunk_seconds", 0.5, 0.95)),
        ("Tokens a second", "short", {"{{kind}}": rate(_TOKENS, "kind")}),
        ("Key-value cache in use", "percentunit", {"{{instance}}": "almanac_generator_kv_usage_ratio"}),
        ("Preemptions so far", "short", {"{{instance}}": "almanac_generator_preemptions"}),
        ("In memory", "bytes", {"{{kind}}": "sum by (kind) (almanac_generator_resident_bytes)"}),
        (
            "Requests that waited for a load",
            "percentunit",
            {
                "{{kind}}": share(
                    rate('almanac_generator_starts_total{state="cold"}', "kind"),
                    rate("almanac_generator_starts_total", "kind"),
                )
            },
        ),
        ("Loads a second", "ops", {"{{kind}} {{type}}": rate("almanac_generator_loads_total", "kind, type")}),
        ("Unloads a second", "ops", {"{{kind}} {{type}}": rate("almanac_generator_unloads_total", "kind, type")}),
    ],
    "Cost": [
        (
            "Tokens an answer",
            "short",
            {
                one: share(rate(f'almanac_answer_tokens_total{{kind="{one}"}}'), rate("almanac_answers_total"))
                for one in ("prompt", "completion")
            },
        ),
        (
            "Texts encoded an answer",
            "short",
            {"texts": share(rate("almanac_answer_encoder_texts_total"), rate("almanac_answers_total"))},
        ),
        (
            "Seconds of the generator an answer",
            "s",
            {"mean": share(rate("almanac_answer_engine_seconds_total"), rate("almanac_answers_total"))},
        ),
        (
            "Answers that were kept ones",
            "percentunit",
            {"share": share(rate('almanac_cache_total{state="hit"}'), rate("almanac_cache_total"))},
        ),
        ("Tokens saved a second", "short", {"tokens": rate("almanac_cache_saved_tokens_total")}),
        ("Seconds of the generator saved a second", "s", {"seconds": rate("almanac_cache_saved_seconds_total")}),
        (
            "Prompt tokens that were cached",
            "percentunit",
            {"share": share(rate(_TOKENS + '{kind="cached"}'), rate(_TOKENS + '{kind="prompt"}'))},
        ),
        (
            "Processor seconds an answer",
            "s",
            {"all processes": share(rate("process_cpu_seconds_total"), rate("almanac_answers_total"))},
        ),
    ],
}


def dashboard(title: str, panels: list[Panel]) -> dict[str, Any]:
    """What Grafana provisions: two panels a row."""
    return {
        "uid": f"almanac-{title.lower()}",
        "title": title,
        "tags": ["almanac"],
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "schemaVersion": 41,
        "panels": [_panel(number, *panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, title: str, unit: str, queries: dict[str, str]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "gridPos": {"x": number % 2 * _WIDTH, "y": number // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend}
            for index, (legend, expression) in enumerate(queries.items())
        ],
    }


def written() -> dict[Path, str]:
    """Every file and what it holds."""
    return {
        HERE / f"{title.lower()}.json": json.dumps(dashboard(title, panels), indent=1) + "\n"
        for title, panels in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
