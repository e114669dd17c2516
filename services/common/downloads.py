"""One file over HTTP: whole or not at all, and gone on with where it broke off, by whoever asks next."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from services.common.errors import Unavailable

_TRIES = 5
"""In a row without a byte; each byte that comes begins them anew."""
_WAIT_SECONDS = 0.5
_SILENT_SECONDS = 30.0

Room = Callable[[int], None]
"""Told how many bytes are to come; raises where there is no room for them."""


class Download:
    """`target.part` holds what has come, `target.etag` of which content it is (RFC 9110: Range and If-Range)."""

    def __init__(self, url: str, target: Path, headers: Mapping[str, str], room: Room) -> None:
        self._url, self._target, self._headers, self._room = url, target, headers, room
        self._part = target.with_name(f"{target.name}.part")
        self._etag = target.with_name(f"{target.name}.etag")

    def run(self) -> None:
        """Raises Unavailable where the server has no such file, or gives no more of it; OSError of the disk."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        left = _TRIES
        with httpx.Client(follow_redirects=True, timeout=_SILENT_SECONDS) as client:
            while True:
                before = self._have()
                try:
                    if self._get(client):
                        break
                    reason = "it breaks off"
                except httpx.TransportError as error:
                    reason = str(error) or type(error).__name__
                left = _TRIES if self._have() > before else left - 1
                if not left:
                    raise Unavailable(f"{reason}; {self._have()} bytes have come and are kept for the next try")
                time.sleep(_WAIT_SECONDS * (_TRIES - left))
        self._part.rename(self._target)
        self._etag.unlink(missing_ok=True)

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _get(self, client: httpx.Client) -> bool:
        """Ask for what is missing; whether all of it is there now."""
        have = self._have()
        with client.stream("GET", self._url, headers={**self._headers, **self._missing(have)}) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._part.unlink(missing_ok=True)
                return False
            if response.status_code >= 500:
                return False
            if not response.is_success:
                raise Unavailable(f"the hub answers {response.status_code} {response.reason_phrase}")
            start = have if response.headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
            length = int(response.headers.get("Content-Length", 0))
            self._room(length)
            self._etag.write_text(response.headers.get("ETag", ""))
            self._write(response, start)
            return not length or self._have() == start + length

    def _missing(self, have: int) -> dict[str, str]:
        """No compression, which would leave the ranges of another content."""
        if not have:
            return {"Accept-Encoding": "identity"}
        etag = self._etag.read_text() if self._etag.exists() else ""
        condition = {"If-Range": etag} if etag and not etag.startswith("W/") else {}
        return {"Accept-Encoding": "identity", "Range": f"bytes={have}-", **condition}

    def _write(self, response: httpx.Response, start: int) -> None:
        with self._part.open("r+b" if start else "wb", buffering=0) as out:
            out.seek(start)
            for block in response.iter_raw():
                out.write(block)
            os.fsync(out.fileno())
