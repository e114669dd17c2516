"""Traces: spans from the request to the last node, and the trace's id in every log line on the way.

Spans are OpenTelemetry's. They travel as W3C Trace Context's `traceparent` (https://www.w3.org/TR/trace-context/), over
HTTP, Celery and gRPC. A span holds names, numbers and ids, never text of a question, a document or an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

TRACEPARENT = "traceparent"
_SCOPE = "almanac"

_propagator = TraceContextTextMapPropagator()
_provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
_watched = False
_ids = RandomIdGenerator()
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def configure(process: str, endpoint: str = "") -> None:
    """Name this process in its spans, and send them to an OTLP endpoint (gRPC, `http://host:4317`) if one is given."""
    global _provider, _watched
    resource = Resource.create({"service.name": process, "service.namespace": _SCOPE})
    _provider, _watched = TracerProvider(sampler=ALWAYS_ON, resource=resource), False
    if endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        watch(BatchSpanProcessor(OTLPSpanExporter(endpoint)))


def watch(processor: SpanProcessor) -> None:
    """Show every span of this process to the processor."""
    global _watched
    _watched = True
    _provider.add_span_processor(processor)


@contextmanager
def tracing(
    handed_over: str | None,
    name: str = "work",
    kind: SpanKind = SpanKind.SERVER,
    **attributes: AttributeValue,
) -> Iterator[Span]:
    """Do the work inside as a span of the trace that was handed over, or of a new one."""
    parent = _propagator.extract({TRACEPARENT: handed_over or ""}, context=Context())
    with _entered(begin(name, kind, parent, attributes)) as span:  # noqa: SIM117
        with structlog.contextvars.bound_contextvars(trace_id=trace_id()):
            yield span


@contextmanager
def spanning(name: str, kind: SpanKind = SpanKind.INTERNAL, **attributes: AttributeValue) -> Iterator[Span]:
    """Do the work inside as a span below the one at hand."""
    with _entered(begin(name, kind, None, attributes)) as span:
        yield span


def begin(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Context | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Span:
    """A span that is not entered: for work that is left and taken up again. End it with `finish`.

    While nobody watches, it is its ids and nothing else: what a span holds costs more than most steps' own work.
    """
    if not _watched:
        return NonRecordingSpan(_below(trace.get_current_span(parent).get_span_context()))
    given = {f"{_SCOPE}.{key}": value for key, value in (attributes or {}).items()}
    return _provider.get_tracer(_SCOPE).start_span(name, parent, kind, given)


def _below(parent: SpanContext) -> SpanContext:
    trace_id = parent.trace_id if parent.is_valid else _ids.generate_trace_id()
    return SpanContext(trace_id, _ids.generate_span_id(), False, _SAMPLED, parent.trace_state)


def finish(span: Span, error: BaseException | None = None) -> None:
    """End the span. Of an error only its class is told: its words may be somebody's."""
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
    span.end()


def traceparent(span: Span | None = None) -> str:
    """What to hand over: the span given, else the one at hand, else a new trace."""
    carrier: dict[str, str] = {}
    if span is None and not trace.get_current_span().get_span_context().is_valid:
        span = begin("work")
    _propagator.inject(carrier, trace.set_span_in_context(span) if span else None)
    return carrier[TRACEPARENT]


def trace_id() -> str:
    """Of the trace at hand, 32 hexadecimal digits; zeros without one."""
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


@contextmanager
def _entered(span: Span) -> Iterator[Span]:
    with trace.use_span(span, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except BaseException as error:
            finish(span, error)
            raise
        finish(span)
