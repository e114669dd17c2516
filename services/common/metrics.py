"""What a process counts, for Prometheus: one registry, exposed by the gateway's /metrics or on a port of its own.

Names and labels are stable. A label takes one of a few values fixed by the code (a step, a node, a method, a status):
never an id, a tenant's text or anything a client chooses.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, start_http_server

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets of everything that takes time."""

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

CALLS = Counter("almanac_grpc_calls", "Calls a node has answered.", ("method", "code"), registry=REGISTRY)
CALL_SECONDS = Histogram(
    "almanac_grpc_call_seconds", "Seconds to the end of a call.", ("method",), buckets=SECONDS, registry=REGISTRY
)


def serve(port: int) -> None:
    """Expose the registry over HTTP on every interface; port 0 exposes nothing."""
    if port:
        start_http_server(port, registry=REGISTRY)
