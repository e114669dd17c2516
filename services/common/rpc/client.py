"""Call a node: channels, deadlines, and the server's errors raised again as themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.trace import SpanKind

from services.common.rpc import tls
from services.common.rpc.circuit import guarding
from services.common.rpc.deadlines import remaining
from services.common.rpc.line import Line, Method
from services.common.rpc.server import OPTIONS
from services.common.rpc.status import from_rpc_error, told_by_node
from services.common.streams import made_twice
from services.common.telemetry import TRACEPARENT, begin, finish, spanning, traceparent

CALL_SECONDS = 30.0
"""How long a call may take where no deadline is set."""

_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # in spite of its name: how long connecting may take
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]
_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it, any ping that is not answered holds the one above up for 60 s
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
"""A peer may go without a word: the connection is given up 20 s later, whether or not anybody calls."""
_SPREAD = [
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
]
"""A name with several addresses (`dns:///encoder:8431`) is several nodes: every call goes to the next. Whenever one of
them leaves, the name is looked up anew."""


def channel(address: str, *options: tuple[str, Any]) -> Line:
    """A channel that reconnects within a second once the node is back, and that leaves a silent connection."""
    spread = _SPREAD if address.startswith(("dns:", "ipv4:", "ipv6:")) else []
    return tls.connect(address, list(dict([*OPTIONS, *_RECONNECT, *_KEEPALIVE, *spread, *options]).items()))


@contextmanager
def translated() -> Iterator[None]:
    """Raise the server's own error instead of gRPC's."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


def _turned_away(error: Exception) -> bool:
    """Whether a node that is about to end sent the call away; one that this side cancels raises another error."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return False
    return error.code() is grpc.StatusCode.CANCELLED and not told_by_node(error)


async def call(method: Method, request: Any, seconds: float = CALL_SECONDS) -> Any:
    """A call with one response, bounded by the deadline at hand. Raises Unavailable while the circuit is open.

    Turned away by a node that ends, it is made once more: another may have taken its place.
    """
    with spanning(method.path[1:], SpanKind.CLIENT), translated():
        try:
            return await _response(method, request, remaining(seconds))
        except grpc.aio.AioRpcError as error:
            if not _turned_away(error) or isinstance(request, AsyncIterator):
                raise
        return await _response(method, request, remaining(seconds))


async def _response(method: Method, request: Any, left: float) -> Any:
    async with guarding(method.circuit, left) as seconds:
        return await method(request, timeout=seconds, metadata=((TRACEPARENT, traceparent()),))


async def stream(method: Method, request: Any, seconds: float = CALL_SECONDS) -> AsyncGenerator[Any, None]:
    """A call with many responses; closing the iterator cancels it. Raises Unavailable while the circuit is open.

    Turned away before the first of them, it is made once more.
    """
    span = begin(method.path[1:], SpanKind.CLIENT)
    error: BaseException | None = None

    def responses_of() -> AsyncGenerator[Any, None]:
        return _responses(method, request, remaining(seconds), traceparent(span))

    try:
        with translated():
            async with aclosing(made_twice(responses_of, _turned_away)) as responses:
                async for response in responses:
                    yield response
    except BaseException as raised:
        error = None if isinstance(raised, GeneratorExit) else raised
        raise
    finally:
        finish(span, error)


async def _responses(method: Method, request: Any, left: float, parent: str) -> AsyncGenerator[Any, None]:
    async with guarding(method.circuit, left) as seconds:
        running = method(request, timeout=seconds, metadata=((TRACEPARENT, parent),))
        try:
            async for response in running:
                method.circuit.answered()
                yield response
        finally:
            running.cancel()


async def healthy(address: str, seconds: float = 1.0, *options: tuple[str, Any]) -> bool:
    """Whether the node at the address says SERVING."""
    async with channel(address, *options) as line:
        try:
            answer = await health_pb2_grpc.HealthStub(line).Check(
                health_pb2.HealthCheckRequest(), timeout=seconds, wait_for_ready=True
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
