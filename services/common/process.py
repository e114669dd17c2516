"""How every process begins: its logs, traces and figures, named after it, and its certificates."""

from __future__ import annotations

import sys

from services.common import logging, metrics, telemetry
from services.common.rpc import tls
from services.common.settings import Settings

_SWITCH_SECONDS = 0.0005
"""How long a thread that computes keeps the event loop waiting; Python's own 5 ms are longer than most steps."""


def begin(name: str, settings: Settings) -> None:
    """Call once, first thing."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    logging.configure(name, settings.log_level)
    telemetry.configure(name, settings.otlp_endpoint)
    metrics.serve(settings.metrics_port)
    tls.configure(settings)
