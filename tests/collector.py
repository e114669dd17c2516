"""A collector of traces: what OpenTelemetry's own would receive, kept in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@dataclass(frozen=True)
class Received:
    """One span. Ids are hexadecimal; a root's parent is empty."""

    process: str
    name: str
    trace: str
    span: str
    parent: str
    attributes: tuple[str, ...]


class Collector(TraceServiceServicer):
    """Takes in spans from any number of processes."""

    def __init__(self) -> None:
        self.address = ""
        self._lock = threading.Lock()
        self._spans: list[Received] = []

    def Export(self, request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:
        with self._lock:
            self._spans += _received(request)
        return ExportTraceServiceResponse()

    def trace(self, trace_id: str) -> list[Received]:
        with self._lock:
            return [span for span in self._spans if span.trace == trace_id]


def _received(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for resource in request.resource_spans:
        names = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    names["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    tuple(one.value.string_value for one in span.attributes),
                )


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens on loopback."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    collector.address = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
