"""Vectors of questions are kept by encoder and text, the last asked longest, and given again without the encoder."""

import numpy as np

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
