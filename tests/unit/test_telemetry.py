"""One trace from the request to the last node."""

from contextlib import aclosing

import pytest
import structlog
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common.clients.encoder import EncoderClient
from services.common.nodes.encoder import TextKind
from services.common.rpc.circuit import Circuit
from services.common.rpc.client import channel, stream
from services.common.rpc.server import start
from services.common.telemetry import configure, spanning, trace_id, traceparent, tracing, watch
from services.encoder.server import EncoderServicer
from services.protos.encoder_pb2_grpc import add_EncoderServicer_to_server
from tests.fakes.encoder import FakeEncoder

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans():
    """Every span that ends in this process."""
    exporter = InMemorySpanExporter()
    watch(SimpleSpanProcessor(exporter))
    return exporter


def test_a_trace_handed_over_is_kept_and_its_spans_differ():
    with tracing(GIVEN):
        first = traceparent()
        with spanning("inner"):
            second = traceparent()
    assert first.split("-")[1] == second.split("-")[1] == GIVEN.split("-")[1]
    assert len({GIVEN, first, second}) == 3


def test_spans_lie_in_each_other(spans):
    with tracing(GIVEN, "outer"), spanning("inner", node="encoder"):
        pass
    inner, outer = spans.get_finished_spans()
    assert (inner.name, inner.attributes["almanac.node"]) == ("inner", "encoder")
    assert inner.parent.span_id == outer.context.span_id
    assert format(outer.parent.span_id, "016x") == GIVEN.split("-")[2]


@pytest.mark.parametrize("watched", [False, True])
def test_ids_are_the_same_whether_or_not_anybody_watches(watched):
    configure("test")
    if watched:
        watch(SimpleSpanProcessor(InMemorySpanExporter()))
    with tracing(GIVEN, "outer") as outer, spanning("inner") as inner:
        assert outer.is_recording() == inner.is_recording() == watched
        assert traceparent().split("-") == ["00", trace_id(), f"{inner.get_span_context().span_id:016x}", "01"]
        assert trace_id() == GIVEN.split("-")[1]


def test_an_error_is_told_by_its_class_alone(spans):
    with pytest.raises(ValueError, match="a secret"), spanning("work"):
        raise ValueError("a secret")
    (span,) = spans.get_finished_spans()
    assert span.status.description == "ValueError"
    assert "a secret" not in span.to_json()


async def test_a_stream_is_one_span_however_it_ends(spans):
    class Call:
        path, circuit = "/almanac.generator.v1.Generator/Generate", Circuit("generator")

        def __call__(self, request, timeout, metadata):
            return self

        async def __aiter__(self):
            for number in range(3):
                yield number

        def cancel(self):
            pass

    async with aclosing(stream(Call(), None)) as numbers:
        assert await anext(numbers) == 0
    (span,) = spans.get_finished_spans()
    assert span.name == "almanac.generator.v1.Generator/Generate"
    assert span.status.is_unset


@pytest.mark.parametrize("given", [None, "", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", GIVEN.upper()])
def test_without_a_valid_trace_there_is_a_new_one(given):
    with tracing(given):
        one = traceparent().split("-")[1]
        assert traceparent().split("-")[1] == one
    with tracing(given):
        assert traceparent().split("-")[1] not in (one, GIVEN.split("-")[1])


async def test_a_call_carries_the_trace_into_the_node_and_its_logs(tmp_path):
    seen = []

    class Listening(FakeEncoder):
        async def encode(self, model, kind, texts):
            seen.append((traceparent().split("-")[1], structlog.contextvars.get_contextvars()["trace_id"]))
            return await super().encode(model, kind, texts)

    address = f"unix:{tmp_path}/e.sock"
    server = await start(
        address,
        "almanac.encoder.v1.Encoder",
        lambda one: add_EncoderServicer_to_server(EncoderServicer(Listening()), one),
    )
    async with channel(address) as line:
        with tracing(GIVEN):
            await EncoderClient(line).encode("all-MiniLM-L6-v2", TextKind.QUERY, ["a"])
    await server.stop(None)
    assert seen == [(GIVEN.split("-")[1],) * 2]
