"""Around every request: security headers, the count of it, and one clear response to what nobody foresaw."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.errors import InvalidRequest
from services.common.telemetry import TRACEPARENT, tracing
from services.gateway.metrics import Metrics
from services.gateway.problems import respond, unexpected

log = structlog.get_logger()

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
        b"require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (b"x-frame-options", b"DENY"),
]


class Doorman:
    """ASGI middleware. Nothing but a cancellation gets past it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        state = scope.setdefault("state", {})

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS, *_told(state), *_leave(scope)]
            await send(message)

        handed_over = dict(scope["headers"]).get(TRACEPARENT.encode(), b"").decode("latin-1")
        try:
            with tracing(handed_over, scope["method"]) as span:
                await self._admitted(scope)(scope, receive, sending)
                span.update_name(f"{scope['method']} {_route(scope)}")
                span.set_attribute("http.response.status_code", status)
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if not status:
                await unexpected(scope["path"])(scope, receive, sending)
        finally:
            self._count(scope, status, time.perf_counter() - began)

    def _admitted(self, scope: Scope) -> ASGIApp:
        """The application; or the refusal of what no database can hold, wherever it stands in the request's target."""
        if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
            return respond(InvalidRequest("the path or query holds NUL characters; take them out"), scope["path"])
        return self._app

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        """A status of 0 is a client that left before there was one."""
        route = _route(scope)
        self._metrics.requests.labels(scope["method"], route, str(status)).inc()
        self._metrics.request_seconds.labels(scope["method"], route).observe(seconds)


def _leave(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The next request is to be another gateway's, once this one is about to end."""
    return [(b"connection", b"close")] if scope["app"].state.draining else []


def _told(state: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """What whoever let the request in has to say in its response."""
    return [(name.lower().encode(), value.encode()) for name, value in state.get("told", {}).items()]


def _route(scope: Scope) -> str:
    """The route's pattern, never the path: a path is the client's choice."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
