"""Serve one node: the servicer, standard health and reflection, errors as statuses, deadlines from the wire."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from services.common.errors import AlmanacError, Internal
from services.common.metrics import CALL_SECONDS, CALLS
from services.common.rpc import tls
from services.common.rpc.deadlines import deadline
from services.common.rpc.status import TYPE_KEY
from services.common.telemetry import TRACEPARENT, tracing

log = structlog.get_logger()

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.max_send_message_length", MAX_MESSAGE_BYTES)]
_PINGS = [
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),  # a busy node reads several at once, which is no client's fault
]
"""Clients may ask every second whether the node is still there."""
_LEAVING = [("grpc.max_connection_age_ms", 30_000)]
"""Clients connect anew so often, and find replicas that were added; calls in flight end where they are."""
NO_DEADLINE_SECONDS = 3600.0


class _Doorman(grpc.aio.ServerInterceptor):
    """Turns what a handler raises into a status, and the call's deadline into the work's."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method).removeprefix("/")
        if handler is None or method.startswith("grpc."):
            return handler
        wrap = _stream if handler.response_streaming else _unary
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
        return make(wrap(inner, method), handler.request_deserializer, handler.response_serializer)


def _unary(inner: Any, method: str) -> Any:
    async def handle(request: Any, context: Any) -> Any:
        with _counted(method, context):
            try:
                with deadline(context.time_remaining() or NO_DEADLINE_SECONDS), tracing(_traceparent(context), method):
                    return await inner(request, context)
            except Exception as error:
                await _abort(context, error, method)

    return handle


def _stream(inner: Any, method: str) -> Any:
    async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
        with _counted(method, context):
            try:
                with deadline(context.time_remaining() or NO_DEADLINE_SECONDS), tracing(_traceparent(context), method):
                    async for response in inner(request, context):
                        yield response
            except Exception as error:
                await _abort(context, error, method)

    return handle


@contextmanager
def _counted(method: str, context: Any) -> Iterator[None]:
    began = time.perf_counter()
    code = grpc.StatusCode.CANCELLED
    try:
        yield
        code = grpc.StatusCode.OK
    except grpc.aio.AbortError:
        code = context.code()
        raise
    finally:
        CALLS.labels(method, code.name).inc()
        CALL_SECONDS.labels(method).observe(time.perf_counter() - began)


def _traceparent(context: Any) -> str:
    return next((str(value) for key, value in context.invocation_metadata() or () if key == TRACEPARENT), "")


async def _abort(context: Any, error: Exception, method: str) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, AlmanacError):
        log.exception("call_failed", method=method)
        error = Internal("the node failed unexpectedly; its log has the details")
    await context.abort(error.grpc_code, error.detail, trailing_metadata=((TYPE_KEY, error.type),))


async def start(address: str, name: str, register: Callable[[grpc.aio.Server], None]) -> grpc.aio.Server:
    """Start serving `almanac.NODE.v1.Node` at the address; SERVING as soon as this returns."""
    if address.startswith("unix:"):
        socket = Path(address.removeprefix("unix:"))
        socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        socket.unlink(missing_ok=True)
    leaving = [] if address.startswith("unix:") else _LEAVING
    server = grpc.aio.server(interceptors=[_Doorman()], options=[*OPTIONS, *_PINGS, *leaving])
    register(server)
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection([name, reflection.SERVICE_NAME, "grpc.health.v1.Health"], server)
    tls.add_port(server, address)
    await server.start()
    for service in ("", name):
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    return server


async def serve(
    address: str, name: str, register: Callable[[grpc.aio.Server], None], drain_seconds: float = 5.0
) -> None:
    """Serve until SIGTERM or SIGINT, then take no more calls and let those in flight end."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await start(address, name, register)
    log.info("serving", service=name, address=address)
    await stopped.wait()
    await server.stop(drain_seconds)
