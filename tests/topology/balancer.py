"""What a Service of Kubernetes is to clients: one address, each new connection to the next endpoint that is ready."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import httpx

_BYTES = 65_536


class Balancer:
    """Passes on TCP. An endpoint is ready as its readiness probe says; connections at hand stay where they are."""

    def __init__(self, path: str, period: float, failures: int) -> None:
        self._path, self._period, self._failures = path, period, failures
        self._failed: dict[tuple[str, int], int] = {}
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server: asyncio.Server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self._probing = asyncio.run_coroutine_threadsafe(self._probe(), self._loop)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def add(self, host: str, port: int) -> None:
        """An endpoint that is ready."""
        self._loop.call_soon_threadsafe(self._failed.setdefault, (host, port), 0)

    def remove(self, host: str, port: int) -> None:
        """No new connections go there."""
        self._loop.call_soon_threadsafe(self._failed.pop, (host, port), None)

    def close(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _end(self) -> None:
        self._server.close()
        mine = asyncio.current_task()
        rest = [task for task in asyncio.all_tasks() if task is not mine]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _probe(self) -> None:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            while True:
                for host, port in list(self._failed):
                    try:
                        well = (await client.get(f"http://{host}:{port}{self._path}")).is_success
                    except httpx.TransportError:
                        well = False
                    if (host, port) in self._failed:
                        self._failed[host, port] = 0 if well else self._failed[host, port] + 1
                await asyncio.sleep(self._period)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ready = [where for where, failed in self._failed.items() if failed < self._failures]
        if not ready:
            writer.close()
            return
        self._turn += 1
        their_reader, their_writer = await asyncio.open_connection(*ready[self._turn % len(ready)])
        await asyncio.gather(_pass(reader, their_writer), _pass(their_reader, writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
