"""`python -m services.common.probe NAME`: exit code 0 if the named process of this container is well, else 1.

For the health checks of images and pods: a node says SERVING, the gateway answers, the worker has beaten lately.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
import time
from pathlib import Path

from services.common.rpc import tls
from services.common.rpc.client import healthy
from services.common.settings import Settings

BEAT = "worker.alive"
"""The file in the run directory whose modification time is the worker's last sign of life."""
_BEAT_SECONDS = 30.0
_PROBE_SECONDS = 3.0
_GATEWAY_PORT = 8420


def well(name: str) -> bool:
    """Whether the process is well. Raises AttributeError for a name that no process has."""
    if name == "gateway":
        port = os.environ.get("ALMANAC_PORT", _GATEWAY_PORT)
        return _gateway(*_here(f"{os.environ.get('ALMANAC_HOST', '127.0.0.1')}:{port}").rsplit(":", 1))
    settings = Settings()
    if name == "orchestrator":
        return _has_beaten(settings.run_dir / BEAT)
    tls.configure(settings)
    return _node(name, _here(getattr(settings, f"{name}_address")))


def _gateway(host: str, port: str) -> bool:
    line = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_PROBE_SECONDS)
    try:
        line.request("GET", "/healthz")
        return line.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        line.close()


def _has_beaten(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < _BEAT_SECONDS
    except FileNotFoundError:
        return False


def _here(address: str) -> str:
    """The address as it is reached from inside the container, where a process listens on every interface."""
    return address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")


def _node(name: str, address: str) -> bool:
    # Inside it is reached by a number, while its certificate has its name.
    return asyncio.run(healthy(address, _PROBE_SECONDS, ("grpc.ssl_target_name_override", name)))


if __name__ == "__main__":
    sys.exit(not well(sys.argv[1]))
