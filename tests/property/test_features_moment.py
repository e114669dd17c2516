"""Random histories of many questions and tenants in one index: every read equals the replay of the question's log."""

import asyncio
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.moment import OPEN_END, OPEN_START, Moment
from services.common.nodes.features import FACTS, FeatureRow
from services.common.nodes.scope import Scope, Stretch
from services.common.timeline import Assertion, apply_splice, assertion_span, replay, restate, splice
from services.features.backends.feast import FeastBackend
from services.features.features import PointInTimeFeatures

HISTORIES = int(os.environ.get("ALMANAC_PROPERTY_ROWS", "1000"))
QUESTIONS = 50
COLLECTIONS = [("a", "x"), ("a", "y"), ("b", "x"), ("a\x1e", "x")]
PER_WORLD = QUESTIONS * len(COLLECTIONS)


def history(dice, clock):
    """One question's log and its statements; `clock` gives the collection's record times, one per change."""
    log, current, statements = [], [], []
    for recorded in sorted(dice.sample(clock, dice.randint(0, 6))):
        start = dice.choice([OPEN_START, *range(-5, 12)])
        end = dice.choice([None, None, OPEN_END, max(start, -5) + dice.randint(1, 8)])
        content = dice.choice([None, "A", "B", "C"])
        span = assertion_span(current, start, end)
        change = splice(current, span, content)
        log.append(Assertion(span, recorded, content))
        current = apply_splice(current, change)
        statements += restate({row.event for row in statements}, current, change, recorded)
    return log, statements


def rows_of(question, statements):
    return [
        FeatureRow(question, row.content is not None, row.event, row.created, {"answer": row.content or ""})
        for row in statements
    ]


async def fill(features, tenant, collection, rows, dice):
    """In one to four stretches, now and then one of them again."""
    rows = sorted(rows, key=lambda row: row.created)
    ends = [*sorted(dice.sample(range(1, 40), dice.randint(0, 3))), 40]
    begin = OPEN_START
    for end in ends:
        part = [row for row in rows if begin < row.created <= end]

        async def batches(part=part):
            for at in range(0, len(part), 37):
                yield part[at : at + 37]

        for _ in range(dice.choice([1, 1, 2])):
            await features.append(FACTS, Stretch(tenant, collection, begin, end), batches())
        begin = end


async def check(seed, directory):
    dice, backend = random.Random(seed), FeastBackend(directory)
    features = PointInTimeFeatures(backend)
    logs = {}
    for tenant, collection in COLLECTIONS:
        made = {f"q{number}": history(dice, range(1, 40)) for number in range(QUESTIONS)}
        logs[tenant, collection] = {question: log for question, (log, _) in made.items()}
        rows = [row for question, (_, statements) in made.items() for row in rows_of(question, statements)]
        await fill(features, tenant, collection, rows, dice)
    for (tenant, collection), questions in logs.items():
        for _ in range(10):
            moment = Moment(dice.choice([OPEN_START, *range(-7, 22), OPEN_END - 1]), dice.randint(0, 40))
            found = await features.read(Scope(tenant, collection, "g", moment), FACTS, list(questions))
            answers = [row.values["answer"] if row.found else None for row in found]
            assert answers == [replay(log, moment) for log in questions.values()], (tenant, collection, moment)
    await backend.close()


@pytest.mark.timeout(120 + HISTORIES // 100)
@settings(
    max_examples=-(-HISTORIES // PER_WORLD),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**32))
def test_every_read_equals_the_replay_of_the_log(seed):
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(check(seed, Path(directory)))
