"""A question's vector comes to the worker from the gateway; without it the worker has it made."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.errors import Unavailable
from services.common.moment import Moment
from services.common.nodes.encoder import TextKind
from services.gateway.ahead import Ahead
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.lending import Borrowing, lend
from services.orchestrator.graph.remembering import QuestionVectors
from services.orchestrator.graph.search import query_vector
from tests.fakes.encoder import FakeEncoder
from tests.fakes.gateway import COLLECTION, GENERATION, MemoryStream, nodes_over

QUESTION = Question("a", "local", COLLECTION, "When did the harbour open?", Moment(2, 2), GENERATION)


class Counting(FakeEncoder):
    """Counts what it is asked; may be down, or wait until it is let go."""

    def __init__(self, down=False):
        super().__init__()
        self.asked, self.down, self.go = [], down, asyncio.Event()
        self.go.set()

    async def encode(self, model, kind, texts):
        self.asked += texts
        await self.go.wait()
        if self.down:
            raise Unavailable("it is down")
        return await super().encode(model, kind, texts)


def over(encoder):
    return replace(nodes_over(None), encoder=encoder, questions=QuestionVectors())


def borrowing(worker, stream):
    return replace(worker, encoder=Borrowing(worker.encoder, stream, QUESTION))


async def test_the_worker_goes_by_the_vector_that_the_gateway_lends():
    gateway, worker, stream = over(Counting()), over(Counting()), MemoryStream()
    finding = asyncio.ensure_future(query_vector(borrowing(worker, stream), GENERATION, QUESTION.text))
    await asyncio.sleep(0)
    await lend(gateway, stream, QUESTION)
    vector = await finding
    assert vector.dtype == np.float32
    assert vector.tolist() == (await query_vector(gateway, GENERATION, QUESTION.text)).tolist()
    assert gateway.encoder.asked == [QUESTION.text]
    assert worker.encoder.asked == []


@pytest.mark.parametrize("lent", [b"", bytes(4), b"12345"], ids=["none", "another model's", "no vector"])
async def test_without_a_vector_that_fits_the_worker_has_it_made(lent):
    worker, stream = over(Counting()), MemoryStream()
    await stream.lend(lent)
    assert (await query_vector(borrowing(worker, stream), GENERATION, QUESTION.text)).shape == (64,)
    assert worker.encoder.asked == [QUESTION.text]


@pytest.mark.parametrize("failure", [RedisConnectionError("gone"), TimeoutError()])
async def test_where_no_vector_comes_the_worker_has_it_made(failure):
    class Silent(MemoryStream):
        async def lent(self, seconds):
            raise failure

    worker = over(Counting())
    await query_vector(borrowing(worker, Silent()), GENERATION, QUESTION.text)
    assert worker.encoder.asked == [QUESTION.text]


async def test_what_is_lent_once_is_waited_for_once():
    worker, stream = over(Counting()), MemoryStream()
    await stream.lend(b"")
    encoder = Borrowing(worker.encoder, stream, QUESTION)
    for text in ("something else", QUESTION.text, QUESTION.text):
        await encoder.encode(GENERATION.encoder, TextKind.QUERY, [text])
    assert worker.encoder.asked == ["something else", QUESTION.text, QUESTION.text]


async def test_the_gateway_says_at_once_that_it_has_none():
    stream = MemoryStream()
    await lend(over(Counting(down=True)), stream, QUESTION)
    assert stream.vectors == [b""]


async def test_a_text_is_encoded_while_it_becomes_a_question():
    nodes = over(Counting())
    ahead = Ahead(nodes, wanted=True)
    with ahead.encoding("the first"):
        pass
    ahead.asked_of(GENERATION)
    with ahead.encoding(QUESTION.text):
        await asyncio.sleep(0)
        stream = MemoryStream()
        await lend(nodes, stream, QUESTION)
    assert nodes.encoder.asked == [QUESTION.text]
    await ahead.close()


async def test_a_question_that_is_refused_is_not_encoded_to_the_end():
    encoder = Counting()
    encoder.go.clear()
    nodes = over(encoder)
    ahead = Ahead(nodes, wanted=True)
    ahead.asked_of(GENERATION)
    with pytest.raises(Unavailable), ahead.encoding(QUESTION.text):
        await asyncio.sleep(0)
        raise Unavailable("no place")
    await ahead.close()
    encoder.go.set()
    await query_vector(nodes, GENERATION, QUESTION.text)
    assert encoder.asked == [QUESTION.text] * 2


async def test_after_a_refusal_nothing_is_encoded_ahead_for_a_while():
    nodes, clock = over(Counting()), [100.0]
    ahead = Ahead(nodes, wanted=True, clock=lambda: clock[0])
    ahead.asked_of(GENERATION)
    with pytest.raises(Unavailable), ahead.encoding("refused"):
        raise Unavailable("no place")
    with ahead.encoding("soon after"):
        await asyncio.sleep(0.01)
    clock[0] += 1.01
    with ahead.encoding(QUESTION.text):
        await asyncio.sleep(0.01)
    assert nodes.encoder.asked == [QUESTION.text]
    await ahead.close()


async def test_where_answers_are_cached_nothing_is_encoded_ahead():
    nodes = over(Counting())
    ahead = Ahead(nodes, wanted=False)
    ahead.asked_of(GENERATION)
    with ahead.encoding(QUESTION.text):
        await asyncio.sleep(0)
    assert nodes.encoder.asked == []
