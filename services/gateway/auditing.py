"""Every administrator's action on record: noted before it is done, and again with what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request

from services.catalog import audit
from services.common.errors import AlmanacError
from services.gateway.context import Context
from services.gateway.identity import Caller

_LONGEST = 256
_READS = ("GET", "HEAD")


class Entry:
    """What the log will say of one action. A route adds what it alone knows; never a secret, never text."""

    def __init__(self, request: Request) -> None:
        route = request.scope["route"]
        self.action = f"{route.endpoint.__module__.rpartition('.')[2]}.{route.name}"
        self.subject = "/".join(str(value) for value in request.path_params.values())[:_LONGEST]
        self.detail: dict[str, Any] = {name: value[:_LONGEST] for name, value in request.query_params.items()}

    def note(self, subject: str, **detail: Any) -> None:
        self.subject = subject
        self.detail.update(detail)


@asynccontextmanager
async def audited(request: Request, context: Context, caller: Caller) -> AsyncIterator[Entry]:
    """Around an action, whose entry is `request.state.entry` as well. What only reads is not recorded."""
    entry = request.state.entry = Entry(request)
    if request.method in _READS:
        yield entry
        return
    audit_id = await context.catalog.writing(
        lambda tx: audit.begin(tx, caller.tenant, caller.key_id, entry.action, entry.subject, entry.detail)
    )
    outcome = "failed"
    try:
        yield entry
        outcome = "done"
    except AlmanacError as error:
        outcome = error.type
        raise
    finally:
        told = {**entry.detail, "outcome": outcome}
        await context.catalog.writing(lambda tx: audit.end(tx, audit_id, entry.subject, told))
