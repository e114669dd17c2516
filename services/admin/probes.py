"""Whether a process is ready. A probe never raises for a process that is not there yet."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

_PROBE_SECONDS = 1.0


async def answers_ping(socket: Path) -> bool:
    """Whether the Redis server behind the unix socket says PONG."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def node_healthy(address: str) -> bool:
    """Whether the node at the gRPC address says SERVING."""
    if address.startswith("unix:") and not Path(address.removeprefix("unix:")).exists():
        return False
    from services.common.rpc.client import healthy

    return await healthy(address, _PROBE_SECONDS)


async def readiness(host: str, port: int) -> tuple[int, dict[str, Any]]:
    """The gateway's own account of itself: status and body of /readyz, (0, {}) where nothing answers.

    HTTP by hand: a client library costs 0.2 s of a start that all processes compete for.
    """
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(host.strip("[]"), port)
            try:
                writer.write(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        return int(head.split(b" ", 2)[1]), json.loads(body)
    except (OSError, TimeoutError, ValueError, IndexError):
        return 0, {}


async def gateway_ready(host: str, port: int) -> bool:
    status, _ = await readiness(host, port)
    return status == 200


async def worker_ready(host: str, port: int) -> bool:
    """Whether the gateway hears from a worker."""
    _, body = await readiness(host, port)
    found = body.get("components", {}).get("worker")
    return found in (True, "ok", "ready", "up") or (isinstance(found, dict) and found.get("ready") is True)
