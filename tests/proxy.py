"""A TCP proxy between two processes that spoils what passes: slow, silent, cut, or gone without a word."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST instead of FIN."""


class Fault(Enum):
    """What is done to the bytes, in both directions."""

    NONE = "none"
    DELAY = "delay"
    """Every piece comes `seconds` later."""
    LOSS = "loss"
    """Every tenth piece comes `seconds` late, as one that TCP had to send again; those behind it wait for it."""
    SILENT = "silent"
    """Connections are accepted and kept, and nothing passes: a peer that hangs, or went without FIN."""
    RESET = "reset"
    """Connections at hand and new ones are reset once something is sent."""
    REFUSED = "refused"
    """Connections at hand are closed and new ones refused: nobody listens."""


class Proxy:
    """Listens on a port of its own and connects to `target`, `host:port`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pieces = 0
        self.accepted = 0
        self.port = 0
        self.fault, self.seconds = Fault.NONE, 0.0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def spoil(self, fault: Fault, seconds: float = 0.0) -> None:
        """From now on. What is silent stays silent on connections at hand, for their bytes are lost."""
        if self.fault is Fault.SILENT or fault is Fault.REFUSED:
            self._cut()
        self.fault, self.seconds = fault, seconds
        if fault is Fault.REFUSED:
            await self._stop_listening()
        elif self._server is None:
            await self.listen()

    async def abandon(self) -> None:
        """Connections at hand go silent for ever; new ones pass: the peer came back elsewhere, without a word."""
        for task in self._pumps:
            task.cancel()
        await asyncio.sleep(0)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        await self._stop_listening()
        for task in self._pumps:
            task.cancel()
        self._cut()

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        try:
            other_reader, other_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(other_writer)
        for source, sink in ((reader, other_writer), (other_reader, writer)):
            task = asyncio.ensure_future(self._pump(source, sink))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                await self._late()
                if self.fault is Fault.RESET:
                    self._reset(writer)
                    return
                if self.fault is not Fault.SILENT:
                    writer.write(piece)
                    await writer.drain()
            if self.fault is not Fault.SILENT:
                writer.close()

    async def _late(self) -> None:
        self._pieces += 1
        if self.fault is Fault.DELAY or (self.fault is Fault.LOSS and self._pieces % 10 == 0):
            await asyncio.sleep(self.seconds)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        for one in list(self._writers):
            end = one.get_extra_info("socket")
            if end is not None and end.fileno() >= 0:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
        self._cut()


@asynccontextmanager
async def proxied(target: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.close()
