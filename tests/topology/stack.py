"""`docker compose up` without Docker: every service of docker-compose.yml in its order, by its image's very command.

What is other than in Docker is in this file: services left out, settings altered, and the model volume, which is the
machine's model cache, as if `models` had filled it before. Users, read-only roots, limits and tini are Docker's matter.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from services.common.settings import Settings
from tests.support import eventually
from tests.topology.containers import Container
from tests.topology.deployed import Service, defaults, services
from tests.topology.network import Loopback, Namespaces, Network, namespaces_allowed
from tests.topology.stores import require

LEFT_OUT = ("qdrant", "prometheus", "grafana")
"""Servers that are not installed here."""
ALTERED = {"retriever": {"ALMANAC_RETRIEVER_BACKEND": "edge"}}
"""The engine of Qdrant within the retriever, instead of a server."""
PASSWORDS = dict.fromkeys(("POSTGRES_PASSWORD", "QDRANT_API_KEY", "GRAFANA_PASSWORD"), "only-here")

_UP_SECONDS, _KEEP_SECONDS, _MOST_BEGUN = 300.0, 0.1, 5
_START_INTERVAL = 1.0
"""As the images have it: how often what starts is asked whether it is healthy."""


Told = Mapping[str, Mapping[str, str]]
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Stack:
    """The services, running."""

    def __init__(self, network: Network, directory: Path, told: Told, twins: Mapping[str, str]) -> None:
        self.directory, self._network = directory, network
        given = {name: one for name, one in services({**defaults(), **PASSWORDS}).items() if name not in LEFT_OUT}
        given |= {twin: replace(given[name], name=twin) for twin, name in twins.items()}
        self.services = {name: _altered(one, told) for name, one in given.items()}
        self._volumes = {
            name: directory / "volumes" / name for one in self.services.values() for name in one.volumes.values()
        }
        self._volumes["models"] = Settings().models_dir
        self.containers: dict[str, list[Container]] = {name: [] for name in self.services}
        self._out_of_service: list[Container] = []
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._keeping = threading.Thread(target=self._keep)
        self._keeping.start()

    def up(self) -> None:
        """Begin everything as soon as what it depends on is as it is to be."""
        met: set[tuple[str, str]] = set()
        waiting = [name for name, one in self.services.items() if one.replicas]
        until = time.monotonic() + _UP_SECONDS
        while waiting or not all((name, "service_healthy") in met for name in self._lasting()):
            assert time.monotonic() < until, f"not up: {waiting}\n{self.logs()}"
            for name in [one for one in waiting if self.services[one].after.items() <= met]:
                for _ in range(self.services[name].replicas):
                    self.add(name)
                waiting.remove(name)
            assert all(one.begun <= _MOST_BEGUN for one in self._all()), self.logs()
            met |= {found for name in self.services for found in self._standing(name) if found not in met}
            time.sleep(_START_INTERVAL)

    def _lasting(self) -> list[str]:
        return [name for name, one in self.services.items() if one.restart != "no" and one.replicas]

    def _standing(self, name: str) -> Iterator[tuple[str, str]]:
        for one in self.containers[name]:
            if one.service.restart == "no":
                assert one.exit_code in (None, 0), f"{name} failed\n{one.said()}"
                if one.exit_code == 0:
                    yield name, "service_completed_successfully"
            elif one.healthy():
                yield name, "service_healthy"

    def add(self, name: str) -> Container:
        """One more replica, begun; its address is known at once."""
        with self._lock:
            number = 1 + sum(one.service.name == name for one in [*self.containers[name], *self._out_of_service])
            home = self.directory / "containers" / f"{name}-{number}"
            place = self._network.join(name, number)
            made = Container(self.services[name], number, place, self._network, home, self._volumes)
            self.containers[name].append(made)
            self._tell_names()
            made.start()
            return made

    def leave(self, container: Container) -> None:
        """Take it out of its service's addresses; it runs on."""
        with self._lock:
            self.containers[container.service.name].remove(container)
            self._out_of_service.append(container)
            self._tell_names()

    def scale(self, name: str, replicas: int) -> None:
        """So many, all of them healthy."""
        while len(self.containers[name]) < replicas:
            self.add(name)
        self.healthy(name)

    def healthy(self, name: str) -> None:
        """Wait until every replica is."""
        for one in list(self.containers[name]):
            eventually(one.healthy, _UP_SECONDS, f"{name} is not healthy\n{one.said()}")

    def _tell_names(self) -> None:
        self._network.names({name: [one.place.address for one in all_of] for name, all_of in self.containers.items()})

    def _keep(self) -> None:
        while not self._ended.wait(_KEEP_SECONDS):
            with self._lock:
                for one in self._all():
                    one.keep()

    def _all(self) -> list[Container]:
        return [one for all_of in self.containers.values() for one in all_of] + self._out_of_service

    def close(self) -> None:
        self._ended.set()
        self._keeping.join()
        ours = [one for one in self._all() if one.service.target]
        for one in ours:
            one.wanted = False
        for one in [*ours, *(one for one in self._all() if not one.service.target)]:
            if one.pid:
                one.kill()

    def logs(self) -> str:
        """The end of what each container said."""
        return "\n".join(f"--- {one.place.name}\n{one.said()[-1500:]}" for one in self._all())

    @property
    def url(self) -> str:
        return f"http://{self.containers['gateway'][0].place.address}:8420"

    @property
    def key(self) -> str:
        """What `docker compose logs key` shows."""
        found = re.search(r"alm_\S+", self.containers["key"][0].said())
        assert found, self.logs()
        return found.group()

    def client(self, url: str = "") -> httpx.Client:
        """An HTTP client with the first key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=url or self.url, headers=headers, timeout=120, trust_env=False)

    def figure(self, container: Container, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        url = f"http://{container.place.address}:{container.place.figures}/metrics"
        text = httpx.get(url, timeout=30, trust_env=False).text
        samples = (one for family in text_string_to_metric_families(text) for one in family.samples)
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def ingest(self, collection: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
        """Take documents in and wait for their job, which is returned."""
        with self.client() as client:
            taken = client.post("/v1/documents", json={"collection": collection, "documents": documents})
            assert taken.status_code == 202, taken.text
            return self.finished(taken.json()["job"]["id"])

    def finished(self, job: str) -> dict[str, Any]:
        with self.client() as client:

            def ended() -> dict[str, Any] | None:
                found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
                return found if found["state"] in ("done", "failed") else None

            return eventually(ended, 180, f"the job did not end\n{self.logs()}")

    def ask(self, question: str, collection: str) -> dict[str, Any]:
        with self.client() as client:
            said = client.post("/v1/answers", json={"question": question, "collection": collection})
        assert said.status_code == 200, f"{said.text}\n{self.logs()}"
        answer: dict[str, Any] = said.json()
        return answer


def _altered(service: Service, told: Told) -> Service:
    ours = told.get("", {}) if service.target else {}
    own = {**ALTERED.get(service.name, {}), **ours, **told.get(service.name, {})}
    after = {name: condition for name, condition in service.after.items() if name not in LEFT_OUT}
    return replace(service, environment={**service.environment, **own}, after=after)


@contextmanager
def running(told: Told = NOTHING, twins: Mapping[str, str] = NOTHING, loopback: bool = False) -> Iterator[Stack]:
    """The stack of docker-compose.yml, up and healthy; nothing is left of it.

    told: settings to add, by service, "" for all of ours. twins: services to add, each like another.
    """
    require()
    directory = Path(tempfile.mkdtemp(prefix="almanac-topology-"))
    directory.chmod(0o755)  # PostgreSQL runs as somebody else
    network: Network = (
        Loopback([*services(PASSWORDS), *twins]) if loopback or not namespaces_allowed() else Namespaces()
    )
    stack = Stack(network, directory, told, twins)
    try:
        stack.up()
        yield stack
    finally:
        stack.close()
        network.close()
        shutil.rmtree(directory, ignore_errors=True)
