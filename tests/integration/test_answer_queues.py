"""Sub-queues over a real Valkey and Celery's own worker: whose question is taken up when many of another's wait."""

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from services.gateway.broker import Broker
from services.orchestrator.graph.queues import answer_queue, answer_queues
from tests.fakes.gateway import ask, catalog_in
from tests.fakes.worker import BEGAN

QUEUES, THREADS, BACKLOG = 8, 2, 50
TAKES = 0.05
START_SECONDS = 180.0


@contextmanager
def worker(directory, valkey):
    """A worker of few threads."""
    settings = {"HOME": directory, "BROKER_URL": f"unix://{valkey.socket}", "WORKER_THREADS": THREADS}
    env = {**os.environ, **{f"ALMANAC_{name}": str(value) for name, value in settings.items()}}
    with (directory / "log").open("wb") as log:
        running = subprocess.Popen([sys.executable, "-m", "tests.fakes.worker", str(TAKES)], env=env, stderr=log)
        try:
            yield
        finally:
            running.kill()
            running.wait()


@pytest.fixture
async def question(tmp_path):
    catalog = catalog_in(tmp_path)
    yield ask(catalog)
    catalog.close()


@pytest.fixture
async def broker(valkey):
    opened = Broker(f"unix://{valkey.socket}", QUEUES)
    yield opened
    await opened.close()


async def begun(redis, count):
    """The tenants of the first answers, in the order in which they began."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            found = await redis.lrange(BEGAN, 0, -1)
            if len(found) >= count:
                return [text.decode() for text in found]
            await asyncio.sleep(0.01)


@pytest.mark.timeout(600)
async def test_a_backlog_delays_another_tenant_by_what_runs_and_one_turn(directory, valkey, broker, question):
    asks = {tenant: replace(question, tenant=tenant, text=tenant) for tenant in "ABC"}
    assert len({answer_queue(tenant, QUEUES) for tenant in asks}) == len(asks)
    async with Redis(unix_socket_path=str(valkey.socket)) as redis:
        for _ in range(BACKLOG):
            await broker.send_answer(asks["A"], 1)
        with worker(directory, valkey):
            before = len(await begun(redis, 10))
            for tenant in "BC":
                await broker.send_answer(asks[tenant], 1)
            order = await begun(redis, BACKLOG + 2)
    late = [order.index(tenant) - before for tenant in "BC"]
    print(f"B and C began after {late} more of {BACKLOG}")
    # A turn each; and what began while the two were sent.
    assert max(late) <= len(asks) + 2 * THREADS
    assert order.count("A") == BACKLOG


@pytest.mark.timeout(600)
async def test_what_a_worker_has_no_thread_for_stays_in_its_queue(directory, valkey, broker, question):
    async with Redis(unix_socket_path=str(valkey.socket)) as redis:
        for _ in range(BACKLOG):
            await broker.send_answer(question, 1)
        with worker(directory, valkey):
            began = 1
            while began < BACKLOG:
                waiting = await redis.llen(answer_queue(question.tenant, QUEUES))
                began = len(await begun(redis, began))
                assert waiting >= BACKLOG - began - THREADS
                await asyncio.sleep(TAKES / 4)


def test_a_tenants_queue_is_the_same_in_every_process():
    known = {"local": "answers.0", "acme": "answers.6", "ä": "answers.3"}
    assert {tenant: answer_queue(tenant, QUEUES) for tenant in known} == known
    found = [answer_queue(f"tenant {number}", QUEUES) for number in range(4_000)]
    assert set(found) == set(answer_queues(QUEUES))
    assert max(map(found.count, set(found))) < 1.25 * len(found) / QUEUES
