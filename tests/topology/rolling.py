"""One process replaced by a new one, as k8s/ has Kubernetes do it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tests.topology.balancer import Balancer
from tests.topology.containers import Container
from tests.topology.deployed import built
from tests.topology.stack import Stack

PORT = 8420
ENDED = (0, -15, 143)
"""Exit codes of a process that ended by itself once it was told to."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """How it went: whether the new one was there first; seconds from SIGTERM to the old one's end, and without any."""

    name: str
    surged: bool
    ending: float
    gap: float


def workload(name: str) -> dict[str, Any]:
    """The Deployment or StatefulSet."""
    kinds = ("Deployment", "StatefulSet")
    return next(one for one in built("prod") if one["kind"] in kinds and one["metadata"]["name"] == name)


def container(name: str) -> dict[str, Any]:
    found: dict[str, Any] = workload(name)["spec"]["template"]["spec"]["containers"][0]
    return found


def surges(name: str) -> bool:
    """Whether the new pod is there before the old one goes."""
    found = workload(name)
    return bool(found["kind"] == "Deployment" and found["spec"]["strategy"]["type"] == "RollingUpdate")


def replace(stack: Stack, name: str, balancer: Balancer | None = None) -> Replaced:
    """Replace the one container of the service; what reaches it from outside goes through the balancer."""
    old = stack.containers[name][0]
    surged = surges(name)
    if surged:
        _begin(stack, name, balancer)
    stack.leave(old)
    if balancer is not None:
        balancer.remove(old.place.address, PORT)
    time.sleep(container(name).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))
    ending = old.stop(workload(name)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])
    assert old.exit_code in ENDED, f"{name} had to be killed\n{old.said()[-3000:]}"
    gone = time.monotonic()
    if not surged:
        _begin(stack, name, balancer)
    return Replaced(name, surged, round(ending, 1), 0.0 if surged else round(time.monotonic() - gone, 1))


def _begin(stack: Stack, name: str, balancer: Balancer | None) -> Container:
    new = stack.add(name)
    stack.healthy(name)
    if balancer is not None:
        balancer.add(new.place.address, PORT)
    return new
