"""Vectors of questions are kept by encoder and text, the last asked longest, and given again without the encoder."""

import asyncio

import numpy as np
import pytest

from services.catalog.records import Generation
from services.common.errors import Unavailable
from services.common.nodes.funnel import DEFAULT
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.remembering import QuestionVectors
from services.orchestrator.graph.search import query_vector


def vector(value):
    return np.full(4, value, np.float32)


def test_an_encoder_s_vector_is_no_other_s():
    kept = QuestionVectors()
    kept.put("one", "When?", vector(1))
    assert kept.get("two", "When?") is None
    assert kept.get("one", "When? ") is None
    assert kept.get("one", "When?").tolist() == [1, 1, 1, 1]


def test_what_was_not_asked_for_longest_goes_first():
    kept = QuestionVectors(most=2)
    for text in "ab":
        kept.put("one", text, vector(1))
    kept.get("one", "a")
    kept.put("one", "c", vector(1))
    assert [text for text in "abc" if kept.get("one", text) is not None] == ["a", "c"]


class Encoder:
    def __init__(self):
        self.calls, self.down = [], False

    async def encode(self, model, kind, texts):
        if self.down:
            raise Unavailable("it is down")
        self.calls.append((model, *texts))
        return np.array([[len(self.calls), 0.0]], np.float32)


async def test_the_same_question_is_encoded_once_for_each_encoder():
    encoder = Encoder()
    nodes = Nodes(None, encoder, None, None, None)
    old, new = (Generation(name, model, 2, DEFAULT) for name, model in (("g1", "one"), ("g2", "two")))
    first = await query_vector(nodes, old, "When?")
    await query_vector(nodes, new, "When?")
    encoder.down = True
    assert (await query_vector(nodes, old, "When?")).tolist() == first.tolist()
    assert encoder.calls == [("one", "When?"), ("two", "When?")]


async def test_nobody_can_change_what_is_kept():
    nodes = Nodes(None, Encoder(), None, None, None)
    generation = Generation("g1", "one", 2, DEFAULT)
    assert not (await query_vector(nodes, generation, "When?")).flags.writeable


class Making:
    """Makes a vector once it is let to; counts how often it began, and whether it was left."""

    def __init__(self, error=None):
        self.error, self.go, self.begun, self.left = error, asyncio.Event(), 0, 0

    async def __call__(self):
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        if self.error:
            raise self.error
        return vector(7)


async def asked(kept, *makes):
    """Tasks that ask for the same vector, each with its own way of making it; the first one has begun."""
    tasks = [asyncio.ensure_future(kept.of("one", "When?", make)) for make in makes]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_what_is_being_made_is_waited_for_and_kept():
    kept, first, second = QuestionVectors(), Making(), Making()
    tasks = await asked(kept, first, second)
    first.go.set()
    assert [found.tolist() for found in await asyncio.gather(*tasks)] == [[7, 7, 7, 7]] * 2
    assert (first.begun, second.begun) == (1, 0)
    assert not kept.get("one", "When?").flags.writeable


async def test_who_waited_for_what_then_failed_makes_it_anew():
    kept, first, second = QuestionVectors(), Making(Unavailable("it is down")), Making()
    broken, well = await asked(kept, first, second)
    first.go.set()
    second.go.set()
    with pytest.raises(Unavailable):
        await broken
    assert (await well).tolist() == [7, 7, 7, 7]


async def test_one_who_leaves_takes_nothing_from_the_others():
    kept, first, second = QuestionVectors(), Making(), Making()
    leaving, staying = await asked(kept, first, second)
    leaving.cancel()
    await asyncio.sleep(0)
    first.go.set()
    assert (await staying).tolist() == [7, 7, 7, 7]
    assert (first.left, second.begun) == (0, 0)


async def test_what_nobody_waits_for_is_not_made_to_the_end():
    kept, first, second = QuestionVectors(), Making(), Making()
    tasks = await asked(kept, first, second)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert first.left == 1
    again = Making()
    again.go.set()
    assert (await kept.of("one", "When?", again)).tolist() == [7, 7, 7, 7]
