"""Random histories of many questions and tenants in one index: every read equals the replay of the question's log."""

import asyncio
import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.moment import OPEN_END, OPEN_START, Moment, Span, parse_instant
from services.common.nodes.features import FACTS, FeatureRow
from services.common.nodes.scope import Scope, Stretch
from services.common.timeline import Assertion, apply_splice, assertion_span, replay, restate, splice
from services.features.backends.feast import FeastBackend
from services.features.features import PointInTimeFeatures
from services.features.span import FEAST_SPAN
from services.features.views import entity_key

ROWS = int(os.environ.get("ALMANAC_PROPERTY_ROWS", "2000"))
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


EDGES = [
    parse_instant(f"{year:04}-06-01T12:00:00.000007Z") for year in (300, 1150, 1677, *range(1679, 2262, 28), 2300, 9000)
]
"""Instants that the small numbers of `history` stand for, in their order."""
ASKED_AT_ONCE = 25_000
MOMENTS = 20


def dated(number):
    """The instant a number of `history` stands for: -5 is the first."""
    return number if number in (OPEN_START, OPEN_END) else EDGES[number + 5]


def recorded(number):
    """Record times from 1680 on, between the instants of valid time and at them."""
    return EDGES[4 + number // 2] + number % 2


def dated_history(dice):
    log, statements = history(dice, range(1, 40))
    log = [
        Assertion(Span(dated(entry.valid.start), dated(entry.valid.end)), recorded(entry.recorded), entry.content)
        for entry in log
    ]
    return log, [
        FeatureRow("", row.content is not None, dated(row.event), recorded(row.created), {"answer": row.content or ""})
        for row in statements
    ]


async def fill_dated(features, questions, dice):
    """Each row in one of some files, in the order of their record times."""
    rows = [replace(row, entity=name) for name, (_, rows) in questions.items() for row in rows]
    begin = OPEN_START
    for end in (recorded(8), recorded(17), recorded(23), recorded(39)):
        part = [row for row in rows if begin < row.created <= end]
        dice.shuffle(part)

        async def batches(part=part):
            yield part

        await features.append(FACTS, Stretch("t", "c", begin, end), batches())
        begin = end


def moment_near(dice, log):
    """At, beside and between what the log names, in the years that Feast can date."""
    edges = [edge for entry in log for edge in (entry.valid.start, entry.valid.end, entry.recorded)] or EDGES
    when = dice.choice([*edges, *EDGES, dice.randrange(FEAST_SPAN.start, FEAST_SPAN.end)]) + dice.choice([-1, 0, 1])
    return min(max(when, FEAST_SPAN.start), FEAST_SPAN.end - 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.timeout(300 + ROWS // 100)
async def test_every_read_equals_feasts_own_join_and_the_replay(tmp_path):
    dice = random.Random(ROWS)
    backend = FeastBackend(tmp_path, buffer_rows=4096)
    features = PointInTimeFeatures(backend)
    questions = {f"q{number}": dated_history(dice) for number in range(-(-ROWS // MOMENTS))}
    await fill_dated(features, questions, dice)
    asked = [(name, moment_near(dice, log)) for name, (log, _) in questions.items() for _ in range(MOMENTS)]
    said = [replay(questions[name][0], Moment(when, when)) for name, when in asked]
    for at in range(0, len(asked), ASKED_AT_ONCE):
        part = asked[at : at + ASKED_AT_ONCE]
        joined = await features.training("t", "c", FACTS, part)
        assert [row.values["answer"] if row.found else None for row in joined] == said[at : at + ASKED_AT_ONCE]
    assert answers(backend, asked, [when for _, when in asked]) == said
    assert sum(answer is not None for answer in said) > len(said) // 4
    known = [recorded(dice.randrange(1, 40)) + dice.choice([-1, 0]) for _ in asked]
    anywhen = [(name, dice.choice([when, *(edge - dice.randint(0, 1) for edge in EDGES)])) for name, when in asked]
    assert answers(backend, anywhen, known) == [
        replay(questions[name][0], Moment(when, known_at))
        for (name, when), known_at in zip(anywhen, known, strict=True)
    ]
    await backend.close()


def answers(backend, asked, known_at):
    keys = [entity_key("t", "c", name) for name, _ in asked]
    found = backend._stores[FACTS].latest(keys, np.array([when for _, when in asked]), np.array(known_at))
    return [row.values["answer"] if row and row.found else None for row in found]
