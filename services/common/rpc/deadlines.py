"""The deadline of the work at hand: set where work starts, it travels with every gRPC call made inside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from services.common.errors import DeadlineExceeded

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound everything inside by `seconds`, or by the deadline already set, whichever comes first."""
    wanted = time.monotonic() + seconds
    current = _deadline.get()
    token = _deadline.set(wanted if current is None else min(wanted, current))
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining(default: float) -> float:
    """Seconds left, `default` where no deadline is set. Raises DeadlineExceeded when none are left."""
    until = _deadline.get()
    if until is None:
        return default
    left = until - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("no time was left before the call was made")
    return left
