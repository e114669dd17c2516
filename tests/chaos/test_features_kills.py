"""The features node killed while it applies definitions, materializes and appends: reads stay right, the next run ends.

The node merges all the time: it holds next to nothing in memory.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager, suppress

import pytest

from services.common.clients.features import FeaturesClient
from services.common.errors import AlmanacError
from services.common.moment import OPEN_END, OPEN_START, Moment, parse_instant
from services.common.nodes.features import FACTS, FeatureRow
from services.common.nodes.scope import Scope, Stretch
from services.common.rpc.client import channel
from services.features.backends.feast import FeastBackend
from services.features.views import entity_key
from tests.support import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

KILLS = min(30, int(os.environ.get("ALMANAC_CHAOS_KILLS", "3")))
PHASES = ("append", "materialize", "apply")
LONGEST = {"append": 1.0, "materialize": 9.0, "apply": 9.0}
"""Seconds into a phase, at most, after which the node is killed; each is done within about that."""
ENTITIES = [f"q{number}" for number in range(40)]
EVENTS = [OPEN_START, parse_instant("1150-01-01"), *(parse_instant(f"{year}-01-01") for year in range(1990, 2010))]
PER_STRETCH = 30


def row(created):
    """The row recorded at an instant."""
    dice = random.Random(created)
    answer = f"answer {created}"
    return FeatureRow(dice.choice(ENTITIES), dice.random() < 0.8, dice.choice(EVENTS), created, {"answer": answer})


def expected(entity, as_of, known_at):
    seen = [one for one in map(row, range(1, known_at + 1)) if one.entity == entity and one.event <= as_of]
    held = max(seen, key=lambda one: (one.event, one.created), default=None)
    return held.values["answer"] if held and held.found else None


class Node:
    """A process of the node, started anew after each kill."""

    def __init__(self, home):
        self.home = home
        self.env = {
            **os.environ,
            "ALMANAC_HOME": str(home),
            "ALMANAC_FEATURES_ADDRESS": f"unix:{home}/f.sock",
            "ALMANAC_FEATURES_BUFFER_ROWS": "64",
            "ALMANAC_LOG_LEVEL": "warning",
        }
        self.process = None

    def launch(self):
        with (self.home / "features.log").open("ab") as log:
            command = [sys.executable, "-m", "services.features"]
            self.process = subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=log, stderr=log)

    async def start(self):
        self.launch()
        for _ in range(300):
            assert self.process.poll() is None, (self.home / "features.log").read_text()[-3000:]
            with suppress(AlmanacError):
                return await self.position()
            await asyncio.sleep(0.1)
        raise AssertionError((self.home / "features.log").read_text()[-3000:])

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(60)

    @asynccontextmanager
    async def client(self):
        async with channel(self.env["ALMANAC_FEATURES_ADDRESS"]) as line:
            yield FeaturesClient(line)

    async def position(self):
        async with self.client() as features:
            return await features.position(FACTS, "t", "c")

    async def append(self, stretches):
        async with self.client() as features:
            for _ in range(stretches):
                done = await features.position(FACTS, "t", "c")
                begin = max(done, 0)
                rows = [row(created) for created in range(begin + 1, begin + PER_STRETCH + 1)]

                async def batches(rows=rows):
                    yield rows

                await features.append(FACTS, Stretch("t", "c", done, begin + PER_STRETCH), batches())

    async def materialize(self):
        async with self.client() as features:
            assert await features.materialize(FACTS) > 0

    async def check(self, dice):
        """Reads at a few moments, up to what has been applied."""
        applied = await self.position()
        async with self.client() as features:
            for _ in range(6 if applied > 0 else 0):
                as_of = max(dice.choice(EVENTS) + dice.choice([-1, 0]), OPEN_START)
                known_at = dice.choice([applied, dice.randint(1, applied)])
                moment = Moment(as_of, known_at)
                found = await features.read(Scope("t", "c", "g", moment), FACTS, ENTITIES)
                assert [one.values.get("answer") for one in found] == [
                    expected(one, as_of, known_at) for one in ENTITIES
                ]


async def interrupted(node, phase, dice):
    """Begin a phase and kill the node in the middle of it."""
    if phase == "apply":
        node.end(signal.SIGTERM)
        (node.home / "features" / "applied.sha256").unlink(missing_ok=True)
        await node.start()
    work = {"append": lambda: node.append(10_000), "materialize": node.materialize, "apply": lambda: asyncio.sleep(99)}
    doing = asyncio.create_task(work[phase]())
    await asyncio.sleep(dice.uniform(0, LONGEST[phase]))
    node.end(signal.SIGKILL)
    doing.cancel()
    with suppress(AlmanacError, asyncio.CancelledError):
        await doing


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    if made.process and made.process.poll() is None:
        made.end(signal.SIGKILL)


async def test_killed_at_any_instant_reads_are_right_and_the_next_run_completes(node, tmp_path, seed):
    dice, killed = random.Random(seed), Counter()
    await node.start()
    await node.append(3)
    for number in range(KILLS):
        phase = PHASES[number % len(PHASES)]
        await interrupted(node, phase, dice)
        killed[phase] += 1
        await node.start()
        await node.check(dice)
        if phase != "append":
            await node.materialize()
        await node.append(3)
        await node.check(dice)
    await node.materialize()
    applied = await node.position()
    node.end(signal.SIGTERM)
    print(f"killed {dict(killed)}, {applied} rows")
    await check_online(tmp_path / "features", applied)


async def check_online(directory, applied):
    backend = FeastBackend(directory, buffer_rows=64)
    store, keys = backend._feast._open(), [entity_key("t", "c", entity) for entity in ENTITIES]
    said = store.get_online_features(store.get_feature_service("facts_v1"), [{"entity_key": key} for key in keys])
    said = said.to_dict()
    online = [answer if present else None for answer, present in zip(said["answer"], said["present"], strict=True)]
    assert online == [expected(entity, OPEN_END, applied) for entity in ENTITIES]
    assert not list(directory.glob("*/*/.*.tmp")) and not list(directory.glob("index/*/*/.*"))
    await backend.close()
