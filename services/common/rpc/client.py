"""Call a node: channels, deadlines, and the server's errors raised again as themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.trace import SpanKind

from services.common.rpc import tls
from services.common.rpc.deadlines import remaining
from services.common.rpc.server import OPTIONS
from services.common.rpc.status import from_rpc_error
from services.common.telemetry import TRACEPARENT, begin, finish, spanning, traceparent

CALL_SECONDS = 30.0
"""How long a call may take where no deadline is set."""

_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]
_SPREAD = [("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')]
"""A name with several addresses (`dns:///encoder:8431`) is several nodes: every call goes to the next."""


def channel(address: str, *options: tuple[str, Any]) -> grpc.aio.Channel:
    """A channel that reconnects within a second once the node is back."""
    spread = _SPREAD if address.startswith("dns:") else []
    return tls.connect(address, [*OPTIONS, *_RECONNECT, *spread, *options])


@contextmanager
def translated() -> Iterator[None]:
    """Raise the server's own error instead of gRPC's."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


def _named(method: Any) -> str:
    """`almanac.NODE.v1.Node/Call`, which gRPC's callables keep to themselves."""
    return bytes(getattr(method, "_method", b"/call")).decode()[1:]


async def call(method: Any, request: Any, seconds: float = CALL_SECONDS) -> Any:
    """A call with one response, bounded by the deadline at hand."""
    with spanning(_named(method), SpanKind.CLIENT), translated():
        return await method(request, timeout=remaining(seconds), metadata=((TRACEPARENT, traceparent()),))


async def stream(method: Any, request: Any, seconds: float = CALL_SECONDS) -> AsyncGenerator[Any, None]:
    """A call with many responses; closing the iterator cancels it."""
    span = begin(_named(method), SpanKind.CLIENT)
    running = method(request, timeout=remaining(seconds), metadata=((TRACEPARENT, traceparent(span)),))
    error: BaseException | None = None
    try:
        with translated():
            async for response in running:
                yield response
    except BaseException as raised:
        error = None if isinstance(raised, GeneratorExit) else raised
        raise
    finally:
        running.cancel()
        finish(span, error)


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
