"""How every process begins: its logs, traces and figures, named after it, and its certificates."""

from __future__ import annotations

from services.common import logging, metrics, telemetry
from services.common.rpc import tls
from services.common.settings import Settings


def begin(name: str, settings: Settings) -> None:
    """Call once, first thing."""
    logging.configure(name, settings.log_level)
    telemetry.configure(name, settings.otlp_endpoint)
    metrics.serve(settings.metrics_port)
    tls.configure(settings)
