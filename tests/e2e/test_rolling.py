"""Each service replaced by a new process, as k8s/ says, while clients ask, search and ingest: no request fails."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager

import httpx
import pytest

from tests.topology.balancer import Balancer
from tests.topology.deployed import built
from tests.topology.rolling import PORT, container, replace, surges
from tests.topology.stack import running

pytestmark = [pytest.mark.timeout(1200)]
SERVICES = ("gateway", "orchestrator", "ingestion", "encoder", "generator", "retriever", "features")
BUSY = {"broker"}
"""Valkey, which nobody replaces, is given a second; a machine that does much else may take it."""
WHERE = "town"
DOCUMENTS = [
    {"id": f"mill-{n}", "title": f"Mill {n}", "text": f"Mill number {n} on Quay Road was built in {1800 + n}."}
    for n in range(20)
]


@pytest.fixture(scope="module")
def stack():
    """Answers and ingestion have workers of their own, and processes as much time, as in k8s/."""
    config = next(one["data"] for one in built("prod") if one["kind"] == "ConfigMap")
    drain = {one["name"]: one["value"] for one in container("gateway")["env"]}["ALMANAC_DRAIN_SECONDS"]
    told = {
        "": {name: config[name] for name in ("ALMANAC_PATIENCE_SECONDS", "ALMANAC_SHUTDOWN_SECONDS")},
        "gateway": {"ALMANAC_DRAIN_SECONDS": drain},
        "orchestrator": {"ALMANAC_WORKER_QUEUES": "answers"},
        "ingestion": {"ALMANAC_WORKER_QUEUES": "ingest"},
    }
    with running(told, twins={"ingestion": "orchestrator"}) as stack:
        assert stack.ingest(WHERE, DOCUMENTS)["state"] == "done"
        yield stack


@pytest.fixture(scope="module")
def balancer(stack):
    probe = container("gateway")["readinessProbe"]
    balancer = Balancer(probe["httpGet"]["path"], probe["periodSeconds"], probe["failureThreshold"])
    balancer.add(stack.containers["gateway"][0].place.address, PORT)
    yield balancer
    balancer.close()


class Clients:
    """Threads that go on until told to stop. failures: what went wrong, in words; degraded: by node."""

    def __init__(self, stack, url):
        self._stack, self._url = stack, url
        self._ended = threading.Event()
        self.failures, self.done, self.degraded = [], Counter(), Counter()
        works = (self._ask, self._ask, self._search, self._ingest)
        self._threads = [threading.Thread(target=self._go_on, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def end(self):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _go_on(self, work):
        n = 0
        with self._stack.client(self._url) as client:
            while not self._ended.is_set():
                n += 1
                try:
                    work(client, n)
                    self.done[work.__name__] += 1
                except (AssertionError, httpx.HTTPError, KeyError, ValueError) as error:
                    self.failures.append(f"{time.strftime('%X')} {work.__name__}: {type(error).__name__}: {error}")

    def _ask(self, client, n):
        """A whole answer, streamed: its text is what was told piece by piece."""
        body = {"question": f"When was mill number {n % 20} built?", "collection": WHERE, "stream": True}
        told, last = "", None
        with client.stream("POST", "/v1/answers", json=body) as said:
            assert said.status_code == 200, said.read()
            for kind, data in events(said.iter_lines()):
                told += data["text"] if kind == "text" else ""
                last = kind, data
        assert last is not None, "no event"
        assert last[0] == "done", last
        answer = last[1]["answer"]
        assert told == answer["answer"] != "", (told, answer)
        assert answer["citations"], answer
        self.degraded.update(answer["degraded"])

    def _search(self, client, n):
        said = client.post("/v1/search", json={"query": f"mill number {n % 20}", "collection": WHERE})
        assert said.status_code == 200, said.text
        assert said.json()["hits"], said.text
        self.degraded.update(said.json()["degraded"])
        time.sleep(0.1)

    def _ingest(self, client, n):
        documents = [
            {"id": f"d{n}-{row}", "title": f"Note {row}", "text": f"Note {row} of {n}. " * 40} for row in range(30)
        ]
        taken = client.post("/v1/documents", json={"collection": "notes", "documents": documents})
        assert taken.status_code == 202, taken.text
        job = taken.json()["job"]
        while job["state"] in ("queued", "running"):
            time.sleep(0.5)
            said = client.get(f"/v1/jobs/{job['id']}")
            assert said.status_code == 200, said.text
            job = said.json()
        assert (job["state"], job["counts"]["failed"]) == ("done", 0), job
        assert job["counts"]["documents"] == len(documents), job


def events(lines):
    """(name, data) of server-sent events."""
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


@contextmanager
def asking(stack, balancer):
    clients = Clients(stack, balancer.url)
    try:
        time.sleep(1)
        yield clients
        time.sleep(2)
    finally:
        clients.end()


def test_only_what_writes_files_of_its_own_is_stopped_before_the_new_one_is_there():
    assert {name for name in SERVICES if not surges(name)} == {"retriever", "features"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_request_fails_while_a_service_is_replaced(stack, balancer, name):
    with asking(stack, balancer) as clients:
        replaced = replace(stack, name, balancer if name == "gateway" else None)
    print(replaced, dict(clients.done), dict(clients.degraded), len(clients.failures))
    assert not clients.failures, f"{replaced}\n" + "\n".join(clients.failures) + stack.logs()
    assert clients.done["_ask"] and clients.done["_search"] and clients.done["_ingest"], clients.done
    assert not set(clients.degraded) - BUSY, f"{replaced} {clients.degraded}"
