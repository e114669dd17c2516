"""What one client may take of the server below HTTP: the time and size of a request's head, its place among the
connections, the time in which it takes what it asked for.

uvicorn bounds none of that with its httptools parser, so a few hundred clients that say nothing, or a byte a second,
would hold the gateway for good. What a body may take is said where it is read (`patience`).
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.common.errors import AlmanacError, HeadTooLarge, InvalidRequest, Overloaded, TooSlow
from services.gateway.problems import PROBLEM, RETRY_SECONDS

log = structlog.get_logger()

FIELD_BYTES = 32
"""What a header field counts for beside its own bytes, as in RFC 9113, section 6.5.2: many small ones are large too."""

MOST_PIPELINED = 16
GRACE_SECONDS = 1.0
_AT_ONCE, _STEP_SECONDS = 5, 0.05
"""Room is made in steps that nobody else notices."""
_TELL_SECONDS = 60.0


@dataclass(slots=True)
class Connections:
    """The bounds, and since when each connection waits for a request, the one that has waited longest first."""

    head_seconds: float
    head_bytes: int
    stalled_seconds: float
    most: int
    waiting: dict[Connection, float] = field(default_factory=dict)
    told: float = float("-inf")
    due: bool = False

    def protocol(self) -> Any:
        """What uvicorn takes as `http`."""
        return partial(Connection, self)

    def wait(self, connection: Connection) -> None:
        self.waiting[connection] = time.monotonic()

    def opened(self, connection: Connection) -> None:
        """Have room again within a second: who sends a request at once is served, however many say nothing. Whoever
        opens twice as many before has the longest silent closed at once."""
        if len(connection.connections) > 2 * self.most:
            self._close(next(iter(self.waiting)))
        elif len(connection.connections) > self.most and not self.due:
            self.due = True
            connection.loop.call_later(GRACE_SECONDS, self._make_room, connection)

    def _make_room(self, one: Connection) -> None:
        silent = time.monotonic() - GRACE_SECONDS / 2
        for connection, since in list(islice(self.waiting.items(), _AT_ONCE)):
            if since < silent and len(one.connections) > self.most:
                one.connections.discard(connection)
                self._close(connection)
        self.due = len(one.connections) > self.most
        if self.due:
            one.loop.call_later(_STEP_SECONDS, self._make_room, one)

    def _close(self, connection: Connection) -> None:
        if time.monotonic() - self.told > _TELL_SECONDS:
            self.told = time.monotonic()
            log.warning("connections_full", most=self.most)
        connection.give_up(Overloaded(f"there are {self.most} connections; come back later"))


class Connection(HttpToolsProtocol):
    """A connection within bounds."""

    def __init__(self, bounds: Connections, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._bounds = bounds
        self._between, self._deaf = True, False
        """Whether all requests that have begun are whole; whether what else comes is passed over."""
        self._unparsed, self._head = 0, 0
        self._answering: RequestResponseCycle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()
        self._bounds.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle()
        self._unset_stalled()
        if self._answering is not None:  # uvicorn tells only the last of pipelined requests
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf or self.transport.is_closing():
            return
        self._unparsed += len(data)
        if self._between and self._late is None:
            self._expect()
        super().data_received(data)
        if self._unparsed > self._bounds.head_bytes and not self.transport.is_closing():
            self.give_up(self._too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value) + FIELD_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            raise InvalidRequest("more requests at once than a connection takes")
        self._settle()
        self._between, self._unparsed = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._settle()
        self._between, self._unparsed = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next request is waited for; or the rest of this one, which nobody reads, so that it hears the answer."""
        super().on_response_complete()
        if self._busy or self.transport.is_closing():
            return
        if self._between:
            self._bounds.wait(self)
        else:
            self._expect()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self._bounds.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unset_stalled()

    def send_400_response(self, msg: str) -> None:
        too_large = self._head > self._bounds.head_bytes
        self.give_up(self._too_large() if too_large else InvalidRequest("this is no HTTP/1.1 (RFC 9112)"))

    def give_up(self, error: AlmanacError) -> None:
        """Close it: with the error, where that answers what has begun, or after the answers to what came before."""
        self._settle()
        self._deaf = True
        silent = self._between or (self.cycle is not None and self.cycle is self._answering)
        if silent and not self._busy and not self._unparsed:
            self.transport.close()
            return
        if self._busy and self._between:
            self.cycle.keep_alive = False
            return
        if not self._busy or (self.cycle is self._answering and not self.cycle.response_started):
            self.transport.write(_response(error))
        self.transport.close()

    @property
    def _busy(self) -> bool:
        """Whether a response is under way."""
        return self._answering is not None and not self._answering.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _expect(self) -> None:
        if not self._busy:
            self._bounds.wait(self)
        self._late = self.loop.call_later(self._bounds.head_seconds, self._is_late)

    def _settle(self) -> None:
        self._bounds.waiting.pop(self, None)
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_late(self) -> None:
        self._late = None
        if self._busy:
            self._expect()  # it is our turn; the next request may wait
        elif not self._between or not self._unparsed:
            self.transport.close()
        else:
            self.give_up(TooSlow(f"the request did not come within {self._bounds.head_seconds:g} s"))

    def _grow(self, size: int) -> None:
        self._head += size
        if self._head > self._bounds.head_bytes:
            raise self._too_large()

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(f"the request's head is larger than {self._bounds.head_bytes} bytes")

    def _unset_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _unsupported_upgrade_warning(self) -> None:
        """It is answered as HTTP/1.1, which RFC 9110, section 7.8 allows; that is nothing to warn of."""


def _response(error: AlmanacError) -> bytes:
    """The error as the last response of a connection."""
    body = json.dumps(error.problem()).encode()
    status = HTTPStatus(error.http_status)
    retry = f"retry-after: {RETRY_SECONDS}\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: {PROBLEM}\r\ncontent-length: {len(body)}\r\n"
        f"{retry}connection: close\r\n\r\n"
    )
    return head.encode() + body
