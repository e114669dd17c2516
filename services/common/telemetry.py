"""The trace of the work at hand: one id from the request to the last node, in every log line on the way.

It travels as W3C Trace Context's `traceparent` (https://www.w3.org/TR/trace-context/), over HTTP, Celery and gRPC.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import structlog

TRACEPARENT = "traceparent"
_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_NONE = "0" * 32

_trace: ContextVar[str] = ContextVar("trace", default="")


@contextmanager
def tracing(traceparent: str | None) -> Iterator[None]:
    """Do the work inside under the trace that was handed over, or under a new one."""
    found = _FORM.fullmatch(traceparent or "")
    trace = found[1] if found and found[1] != _NONE else secrets.token_hex(16)
    token = _trace.set(trace)
    try:
        with structlog.contextvars.bound_contextvars(trace_id=trace):
            yield
    finally:
        _trace.reset(token)


def traceparent() -> str:
    """What to hand over: the trace at hand with a span id of its own; a new trace where there is none."""
    return f"00-{_trace.get() or secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
