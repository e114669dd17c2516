"""How every process begins: its logs, its traces and its figures, each named after it."""

from __future__ import annotations

from services.common import logging, metrics, telemetry
from services.common.settings import Settings


def begin(name: str, settings: Settings) -> None:
    """Call once, first thing."""
    logging.configure(name, settings.log_level)
    telemetry.configure(name, settings.otlp_endpoint)
    metrics.serve(settings.metrics_port)
