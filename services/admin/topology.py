"""The processes of a local stack: the very ones that compose and Kubernetes run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial

from services.admin.failures import Failed
from services.admin.probes import answers_ping, gateway_ready, node_healthy, worker_ready
from services.admin.process import ProcessSpec
from services.admin.settings import AdminSettings
from services.admin.valkey import valkey_argv

NODES = ("encoder", "retriever", "features", "generator")
VALKEY = "valkey"


def stack(settings: AdminSettings, port: int) -> list[ProcessSpec]:
    """Valkey first, it takes milliseconds; then everything else together. No Valkey where a broker is given."""
    socket = settings.run_dir / "valkey.sock"
    embedded = settings.broker_url == f"unix://{socket}"
    after = (VALKEY,) if embedded else ()
    host = settings.reachable_host
    nodes = [
        ProcessSpec(name, _module(name), partial(node_healthy, getattr(settings, f"{name}_address")), after)
        for name in NODES
    ]
    return [
        *([_valkey(settings)] if embedded else []),
        *nodes,
        ProcessSpec("worker", _module("orchestrator"), partial(worker_ready, host, port), after, stage=2),
        ProcessSpec("gateway", _module("gateway"), partial(gateway_ready, host, port), after, stage=3),
    ]


def _valkey(settings: AdminSettings) -> ProcessSpec:
    socket = settings.run_dir / "valkey.sock"
    return ProcessSpec(VALKEY, valkey_argv(socket, settings.home / VALKEY), partial(answers_ping, socket), stage=0)


def _module(service: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"services.{service}")


def environment(settings: AdminSettings, port: int) -> Mapping[str, str]:
    """The whole environment, with the home and the port in use."""
    own = {"ALMANAC_HOME": str(settings.home), "ALMANAC_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **own}


def prepare(settings: AdminSettings) -> None:
    """Make the directories. Raises Failed where the directory of the sockets belongs to somebody else."""
    for place in (settings.home / VALKEY, settings.log_dir, settings.run_dir):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    if settings.run_dir.stat().st_uid != os.getuid():
        raise Failed(f"{settings.run_dir} belongs to another user; set ALMANAC_HOME to a shorter path")
