"""Answers while their processes are killed: each one accepted ends in time, well or with a clear error, and once.

Eight clients stream answers from a real gateway, one after the other, while nodes, worker and broker are killed at
random moments. ALMANAC_CHAOS_KILLS sets how often. A failure names the answer; the seed is printed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.support import Stack, eventually, ingest_examples, running_stack

KILLS = int(os.environ.get("ALMANAC_CHAOS_KILLS", "6"))
VICTIMS = ("encoder", "retriever", "features", "generator", "worker", "valkey")
CLIENTS = 8
ANSWER_SECONDS = 60
SLACK_SECONDS = 15
"""Beyond an answer's deadline: a busy machine tells late what happened in time."""
LONGEST_PAUSE = 4.0
LEAVING = 0.2
"""The share of the questions whose client leaves before the end."""
BACK_SECONDS = 120
QUESTIONS = (
    "How is the kilogram defined?",
    "Who designed the clock tower at Westminster?",
    "Is Pluto a planet?",
    "What is the melting point of tungsten?",
    "What is the tallest building in the world?",
    "Who kept the lighthouse at Dunmore?",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 30 * KILLS)]
Json = dict[str, Any]


@dataclass
class Heard:
    """What a client heard of one question."""

    status: int = 0
    problem: Json = field(default_factory=dict)
    events: list[tuple[str, Json]] = field(default_factory=list)
    seconds: float = 0.0
    left: bool = False

    @property
    def text(self) -> str:
        return "".join(data["text"] for kind, data in self.events if kind == "text")

    @property
    def last(self) -> tuple[str, Json]:
        return self.events[-1] if self.events else ("nothing", {})


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    settings = {"ALMANAC_ANSWER_SECONDS": str(ANSWER_SECONDS), "ALMANAC_RESUME_SECONDS": "2"}
    with running_stack(tmp_path_factory.mktemp("answers") / "home", **settings) as running:
        ingest_examples(running)
        yield running


async def events_in(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Json]]:
    kind = ""
    async for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


async def ask(client: httpx.AsyncClient, dice: random.Random) -> Heard:
    heard, began = Heard(), time.monotonic()
    moment = {"as_of": f"{dice.randint(1990, 2024)}-06-01"}
    how = {"stream": True, "max_tokens": 32, "generate": dice.random() < 0.75}
    body = {"question": dice.choice(QUESTIONS), "collection": "almanac", **moment, **how}
    most = dice.randint(1, 6) if dice.random() < LEAVING else -1
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS + SLACK_SECONDS),
            client.stream("POST", "/v1/answers", json=body) as response,
        ):
            heard.status = response.status_code
            if heard.status != 200:
                heard.problem = json.loads(await response.aread())
                return heard
            async for event in events_in(response.aiter_lines()):
                heard.events.append(event)
                heard.left = len(heard.events) == most and event[0] not in ("done", "error")
                if heard.left:
                    break
    except TimeoutError:
        heard.events.append(("hangs", body))
    heard.seconds = time.monotonic() - began
    return heard


async def keep_asking(stack: Stack, dice: random.Random, over: asyncio.Event) -> list[Heard]:
    heard = []
    async with httpx.AsyncClient(base_url=stack.url, timeout=None, trust_env=False) as client:
        while not over.is_set():
            heard.append(await ask(client, dice))
            if heard[-1].status != 200:
                await asyncio.sleep(0.5)
    return heard


def victims(dice: random.Random) -> Iterator[str]:
    """Each of them as often as the others, in an order that is different every time."""
    return itertools.islice(itertools.chain.from_iterable(dice.sample(VICTIMS, 6) for _ in range(KILLS)), KILLS)


def pid_of(stack: Stack, name: str) -> int:
    """0 while it is not ready."""
    found = stack.processes()[name]
    return int(found["pid"]) if found["state"] == "ready" else 0


async def kill_at_random(stack: Stack, dice: random.Random, over: asyncio.Event) -> None:
    """The next one goes before the last one is back, as chance has it."""
    try:
        for name in victims(dice):
            await asyncio.sleep(dice.uniform(0.2, LONGEST_PAUSE))
            await asyncio.to_thread(eventually, lambda name=name: pid_of(stack, name), BACK_SECONDS, f"{name} is gone")
            stack.kill(name)
    finally:
        over.set()


async def under_fire(stack: Stack, seed: int) -> list[Heard]:
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(keep_asking(stack, random.Random(f"{seed}/{n}"), over)) for n in range(CLIENTS)]
        group.create_task(kill_at_random(stack, random.Random(seed), over))
    return [heard for one in asking for heard in one.result()]


def recorded(stack: Stack) -> dict[str, tuple[str, Json | None]]:
    """The state and record of every answer in the catalog."""
    with closing(sqlite3.connect(f"file:{stack.home / 'catalog.db'}?mode=ro", uri=True)) as catalog:
        rows = catalog.execute("SELECT answer_id, state, record FROM answers").fetchall()
    return {answer_id: (state, json.loads(record) if record else None) for answer_id, state, record in rows}


def check(heard: Heard, catalog: dict[str, tuple[str, Json | None]]) -> str:
    """How the answer ended: `done`, or the type of its error."""
    kind, data = heard.last
    told = f"after {heard.seconds:.1f} s: {heard.text!r}, then {kind} {data}"
    assert kind in ("done", "error"), told
    assert not {"done", "error"} & {kind for kind, _ in heard.events[:-1]}, told
    if kind == "error":
        assert data["problem"]["status"] in (503, 504), told
        return str(data["problem"]["type"]).rpartition(":")[2]
    answer = data["answer"]
    assert heard.text == answer["answer"], told
    assert catalog[answer["id"]] == ("done", answer), told
    cited = [data["citation"] for kind, data in heard.events if kind == "citation"]
    assert all(citation in cited for citation in answer["citations"]), told
    return "done"


def test_every_answer_ends_in_time_and_once_whatever_is_killed(stack, seed):
    before = set(recorded(stack))
    heard = asyncio.run(under_fire(stack, seed))
    for name in VICTIMS:
        eventually(lambda name=name: pid_of(stack, name), BACK_SECONDS, stack.logs())
    accepted, refused = [one for one in heard if one.status == 200], [one for one in heard if one.status != 200]
    left = [one for one in accepted if one.left]
    eventually(lambda: all(state != "asked" for state, _ in recorded(stack).values()), BACK_SECONDS, stack.logs())
    catalog = recorded(stack)
    ends = Counter(check(one, catalog) for one in accepted if not one.left)
    lost = Counter(node for one in accepted if one.last[0] == "done" for node in one.last[1]["answer"]["degraded"])
    turned_away = Counter(one.status for one in refused)
    longest = max(one.seconds for one in accepted)
    told = f"{len(accepted)} answers {dict(ends)}, {len(left)} left, refused {dict(turned_away)}"
    print(f"seed {seed}: {KILLS} kills, {told}, without {dict(lost)}, the longest {longest:.1f} s")
    assert set(turned_away) <= {503, 504}, [one.problem for one in refused]
    done = [answer_id for answer_id, (state, _) in catalog.items() if state == "done" and answer_id not in before]
    assert len(done) - len(left) <= ends["done"] <= len(done) and ends["done"] >= len(accepted) // 2
    eventually(lambda: stack.ask(QUESTIONS[0], collection="almanac")["degraded"] == [], BACK_SECONDS, stack.logs())
