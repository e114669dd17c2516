"""A client that costs little beside what it measures: HTTP/1.1 over asyncio's streams, its requests ready as bytes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

_END = b"\r\n\r\n"
_LONGEST = 1 << 22


@dataclass
class Reply:
    """What came of a request; seconds from its sending to the headers, the body's first byte and the first text."""

    status: int = 0
    headers: float = 0.0
    first: float = 0.0
    text: float = 0.0
    ended: bool = False


def post(path: str, body: Mapping[str, Any], key: str = "") -> bytes:
    """The request, as it is sent."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(data)}", *([f"Authorization: Bearer {key}"] if key else [])]
    return "\r\n".join(lines).encode() + _END + data


@dataclass
class Load:
    """Closed-loop clients of one server: each asks as soon as it has its answer."""

    port: int
    requests: Sequence[bytes]
    ms: list[float] = field(default_factory=list)
    failures: int = 0
    turn: count[int] = field(default_factory=count)

    async def run(self, clients: int, seconds: float) -> float:
        """Requests a second that were answered well."""
        before, began = len(self.ms), time.perf_counter()
        await asyncio.gather(*(self._client(began + seconds) for _ in range(clients)))
        return (len(self.ms) - before) / (time.perf_counter() - began)

    async def _client(self, until: float) -> None:
        reader, writer = await connect(self.port)
        while (began := time.perf_counter()) < until:
            writer.write(self.requests[next(self.turn) % len(self.requests)])
            if await _whole(reader) == 200:
                self.ms.append((time.perf_counter() - began) * 1000)
            else:
                self.failures += 1
        writer.close()


async def _whole(reader: asyncio.StreamReader) -> int:
    """The status of a response with a stated length, read to its end."""
    head = await reader.readuntil(_END)
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(head[9:12])


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that can be asked again and again."""
    return await asyncio.open_connection("127.0.0.1", port, limit=_LONGEST)


async def events(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> AsyncIterator[tuple[str, bytes]]:
    """Kind and data of each server-sent event, read to the stream's end. Raises RuntimeError for any status but 200."""
    writer.write(request)
    head = await reader.readuntil(_END)
    if int(head[9:12]) != 200:
        raise RuntimeError(head.decode())
    kind = ""
    while line := await reader.readline():
        if line.startswith(b"event: "):
            kind = line[7:].decode().rstrip()
        elif line.startswith(b"data: "):
            yield kind, line[6:]
        elif line == b"0\r\n":
            await reader.readline()
            break


async def listen(port: int, request: bytes, began: asyncio.Event | None = None) -> Reply:
    """Follow a stream of server-sent events to its last one, `done`; `began` is set with its first byte, or its end."""
    reply, sent = Reply(), time.perf_counter()
    reader, writer = await connect(port)
    try:
        writer.write(request)
        reply.status = int((await reader.readuntil(_END))[9:12])
        reply.headers = time.perf_counter() - sent
        while reply.status == 200 and (line := await reader.readline()):
            at = time.perf_counter() - sent
            if not reply.first and line.startswith((b"event:", b"id:", b":")):
                reply.first = at
                if began is not None:
                    began.set()
            elif not reply.text and line.startswith(b"event: text"):
                reply.text = at
            reply.ended = reply.ended or line.startswith(b"event: done")
            if reply.ended or line.startswith(b"0\r\n"):
                break
    finally:
        writer.close()
        if began is not None:
            began.set()
    return reply
