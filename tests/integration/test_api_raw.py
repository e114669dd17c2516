"""The gateway's raw surface, as a process: whatever comes, it stays up, answers in HTTP, and others are served."""

import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.flood import GET, LAST, MESSAGES, POST, broken, drip, hold, tell
from tests.support import ROOT, eventually, free_port

HEAD_SECONDS, MOST = 4.0, 200
BOUNDS = {
    "ALMANAC_HEAD_SECONDS": str(HEAD_SECONDS),
    "ALMANAC_BODY_SECONDS": "4",
    "ALMANAC_BODY_RATE": "1000",
    "ALMANAC_STALLED_SECONDS": "4",
    "ALMANAC_CONNECTIONS": str(MOST),
}
HANGS = 60.0
AT_ONCE = 20


@dataclass
class Gateway:
    port: int
    process: subprocess.Popen
    log: Path

    def alive(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False, timeout=HANGS).is_success
        except httpx.TransportError:
            return False

    def files(self) -> int:
        """How many files it has open, connections among them."""
        return psutil.Process(self.process.pid).num_fds()


@contextmanager
def running(home: Path, bounds: dict[str, str]):
    port = free_port()
    log, env = home / "log", {**os.environ, **bounds, "ALMANAC_HOME": str(home), "ALMANAC_PORT": str(port)}
    with log.open("wb") as target:
        process = subprocess.Popen([sys.executable, "-m", "services.gateway"], env=env, stdout=target, stderr=target)
    found = Gateway(port, process, log)
    try:
        eventually(found.alive, HANGS)
        yield found
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with running(tmp_path_factory.mktemp("home"), BOUNDS) as found:
        yield found


@pytest.fixture(autouse=True)
def unharmed(gateway):
    """After each test: the same process, which answers, and nothing in its log that nobody foresaw."""
    yield
    assert gateway.alive()
    log = gateway.log.read_text()
    assert "Traceback" not in log and "request_failed" not in log, log[-3000:]


def status_of(response: bytes) -> int:
    assert response.startswith(b"HTTP/1.1 "), response[:100]
    return int(response[9:12])


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_broken_request_is_told_what_is_wrong(gateway, name):
    message, status = MESSAGES[name]
    response = await tell(gateway.port, [message], HANGS)
    assert status_of(response) == status
    head, _, body = response.partition(b"\r\n\r\n")
    assert status == 200 or (body.startswith(b"{") and (b"problem+json" in head or b"/mcp" in message))


async def test_requests_broken_at_random_get_an_answer_or_none(gateway, histories, seed):
    dice, most = random.Random(seed), max(200, histories // 50)
    statuses: dict[int, int] = {}

    async def send(message: bytes) -> None:
        response = await tell(gateway.port, [message], 2.0)
        status = status_of(response) if response else 0
        statuses[status] = statuses.get(status, 0) + 1
        assert status < 500 or b"retry-after:" in response.lower(), (message, response)

    for _ in range(most // AT_ONCE):
        await asyncio.gather(*(send(broken(dice)) for _ in range(AT_ONCE)))
    print(f"{most} broken requests, seed {seed}, by status {dict(sorted(statuses.items()))}")
    assert statuses.get(400, 0) > most / 5


async def test_a_byte_a_second_ends_with_the_time_for_a_head(gateway):
    began = time.monotonic()
    pieces = [GET[at : at + 1] for at in range(len(GET))]
    response = await tell(gateway.port, pieces, HANGS, pause=1.0)
    assert HEAD_SECONDS - 1 < time.monotonic() - began < HANGS / 2
    assert response == b"" or status_of(response) == 408  # a reset may overtake it, for the client still sends


async def test_a_body_that_drips_ends_with_the_time_for_a_body(gateway):
    response = await tell(gateway.port, [POST + b"Content-Length: 99\r\n" + LAST, *[b" "] * 30], HANGS, pause=0.5)
    assert response == b"" or status_of(response) == 408


async def test_a_body_gains_time_by_what_has_come(gateway):
    """Twelve pieces in about 6 s, each of which is worth a second."""
    size = int(BOUNDS["ALMANAC_BODY_RATE"])
    head = POST + b"Content-Length: %d\r\n" % (12 * size) + LAST
    response = await tell(gateway.port, [head, *[b" " * size] * 12], HANGS, pause=0.5)
    assert status_of(response) == 400


def test_a_client_that_takes_nothing_is_left(gateway):
    """It asks for more than the kernels between hold, and reads none of it."""
    before = gateway.files()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", gateway.port))
        with suppress(OSError):
            for _ in range(10):
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 15)
                time.sleep(1.0)
        eventually(lambda: gateway.files() <= before, HANGS)


@contextmanager
def meanwhile(*works):
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def test_more_connections_than_there_may_be_keep_nobody_out(gateway):
    """More say nothing than there may be, and some say a byte a second: each good request is answered."""
    before = gateway.files()
    with meanwhile(*(hold(gateway.port) for _ in range(MOST * 3 // 2)), *(drip(gateway.port) for _ in range(20))):
        await asyncio.sleep(1.0)
        answers = [await tell(gateway.port, [GET + LAST, b""], HANGS, pause=0.05) for _ in range(50)]
        more = gateway.files() - before
    assert [status_of(answer) for answer in answers] == [200] * 50
    assert MOST / 2 < more <= 2 * MOST + 10
    assert "connections_full" in gateway.log.read_text()


ROUNDS, REQUESTS, RATIO = 9, 200, 1.5


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_others_are_served_nearly_as_fast_as_without_them(tmp_path):
    """p95 of a client that behaves, round by round while another does everything wrong, and while that one is still."""
    quiet, flooded = [], []
    with running(tmp_path, {}) as usual, flooding(usual.port) as flood:
        for _ in range(ROUNDS):
            for times, sent in ((quiet, signal.SIGSTOP), (flooded, signal.SIGCONT)):
                flood.send_signal(sent)
                await asyncio.sleep(2.0)
                times.append(await p95(usual.port))
    ratio = statistics.median(flooded) / statistics.median(quiet)
    told = [f"{statistics.median(times) * 1e3:.1f} ms" for times in (quiet, flooded)]
    print(f"p95 of {REQUESTS} requests, medians of {ROUNDS} rounds: {told[0]} alone, {told[1]} flooded, {ratio:.2f} x")
    assert ratio <= RATIO


@contextmanager
def flooding(port: int):
    process = subprocess.Popen([sys.executable, "-m", "tests.flood", str(port)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def p95(port: int) -> float:
    """Of requests at an even pace, in seconds."""
    times = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=HANGS) as client:
        for _ in range(REQUESTS):
            began = time.perf_counter()
            assert (await client.get("/v1/collections")).status_code == 200
            times.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)
    return statistics.quantiles(times, n=20)[-1]
