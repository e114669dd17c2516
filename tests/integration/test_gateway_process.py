"""The gateway as a process: up without anything else, ending in order; and over a real socket, a client that leaves."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import httpx
import pytest
import uvicorn

from services.gateway.dispatch import Dispatcher
from services.gateway.metrics import Metrics
from services.orchestrator.graph.answer import Event
from tests.fakes.gateway import COLLECTION, MemoryBroker, ask, catalog_in, gateway, nodes_over

SECONDS = 30.0


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def process(port, request):
    with tempfile.TemporaryDirectory() as home:
        settings = getattr(request, "param", {})
        env = {**os.environ, "ALMANAC_HOME": home, "ALMANAC_PORT": str(port), **settings}
        started = subprocess.Popen([sys.executable, "-m", "services.gateway"], env=env, stderr=subprocess.PIPE)
        yield started
        started.kill()
        started.communicate()


def get(port, path):
    """The response, once there is one."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_it_is_alive_but_not_ready_without_the_nodes_and_ends_in_order(process, port):
    assert get(port, "/healthz").json() == {"status": "alive"}
    began = time.monotonic()
    ready = get(port, "/readyz")
    assert time.monotonic() - began < 1.0
    assert (ready.status_code, ready.json()["components"]["catalog"]) == (503, True)
    assert get(port, "/v1/collections").json() == {"collections": []}
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("process", [{"ALMANAC_DRAIN_SECONDS": "3"}], indirect=True)
def test_told_to_stop_it_answers_a_while_not_ready_and_has_its_clients_leave(process, port):
    assert "connection" not in get(port, "/healthz").headers
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    left, ready = get(port, "/v1/collections"), get(port, "/readyz")
    assert (left.status_code, left.headers["connection"], ready.status_code) == (200, "close", 503)
    assert process.wait(SECONDS) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("process", [{"ALMANAC_DRAIN_SECONDS": "600"}], indirect=True)
def test_told_twice_it_does_not_drain(process, port):
    get(port, "/healthz")
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    assert process.wait(SECONDS) in (0, -signal.SIGTERM)
    assert b"Traceback" not in process.stderr.read()


def test_it_imports_no_engine():
    heavy = ("torch", "feast", "onnxruntime", "qdrant_edge", "faiss", "xllamacpp", "pandas")
    code = f"import sys, services.gateway.__main__; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_graph(tmp_path, port, stream):
    started, stopped = asyncio.Event(), asyncio.Event()

    async def graph(nodes, question, emit, prefix):
        await emit(Event("text", {"text": "It"}))
        started.set()
        try:
            await asyncio.sleep(SECONDS)
        finally:
            stopped.set()

    catalog = catalog_in(tmp_path)
    dispatcher = Dispatcher(nodes_over(catalog), MemoryBroker(down=True), Metrics(), SECONDS, run=graph)
    async with gateway(tmp_path, dispatcher.answer, resume_seconds=0.2) as app:
        config = uvicorn.Config(app, port=port, log_level="error", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)
        body = {"question": ask(catalog).text, "collection": COLLECTION, "stream": stream}
        async with httpx.AsyncClient(trust_env=False) as client:
            asking = asyncio.create_task(client.post(f"http://127.0.0.1:{port}/v1/answers", json=body))
            await asyncio.wait_for(started.wait(), SECONDS)
            asking.cancel()
        await asyncio.wait_for(stopped.wait(), 3)
        server.should_exit = True
        await serving
    catalog.close()
