"""The gateway over a real broker: tasks that arrive, events that come back, a broker killed or frozen mid-answer."""

import asyncio
import base64
import json
import signal
from contextlib import aclosing

import pytest
from celery import Celery
from redis.asyncio import Redis

from services.gateway.broker import Broker
from services.gateway.dispatch import Dispatcher
from services.gateway.metrics import Metrics
from services.gateway.resuming import START, following, rest
from services.gateway.tasks import message
from services.orchestrator.graph.answer import Event
from services.orchestrator.graph.names import ANSWERING_KEY, INGEST_QUEUE, WORKER_ALIVE_KEY
from services.orchestrator.graph.queues import answer_queue
from services.orchestrator.graph.stream import AnswerStream
from tests.fakes.gateway import ask, catalog_in, gateway, nodes_over, said

QUEUES = 8
QUEUE = answer_queue("local", QUEUES)
SILENCE = 0.8
LONG = 5.0
"""Seconds within which everything here is over; a working broker takes milliseconds."""


@pytest.fixture
async def broker(valkey):
    opened = Broker(f"unix://{valkey.socket}", QUEUES)
    yield opened
    await opened.close()


@pytest.fixture
async def redis(valkey):
    async with Redis.from_url(f"unix://{valkey.socket}") as opened:
        yield opened


@pytest.fixture
def catalog(tmp_path):
    opened = catalog_in(tmp_path)
    yield opened
    opened.close()


def as_sent(question):
    """The question as a task carries it."""
    return json.loads(json.dumps(question.to_json()))


async def task_from(redis, queue):
    """A task's name and arguments, as a Celery worker reads them."""
    _, raw = await redis.blpop([queue], timeout=LONG)
    message = json.loads(raw)
    [args, _, _] = json.loads(base64.b64decode(message["body"]))
    return message["headers"]["task"], args


async def events_of(catalog, broker, question, meanwhile):
    """The events of an answer of which `meanwhile` is the worker; the gateway's own graph says `here`."""
    told = []

    async def emit(event):
        told.append(event)

    async def graph(nodes, question, emit, released):
        await emit(Event("text", {"text": " and here"}))
        return said(question, f"{released.text} and here")

    dispatcher = Dispatcher(nodes_over(catalog), broker, Metrics(), 4 * LONG, SILENCE, graph)
    async with asyncio.timeout(3 * LONG):
        await asyncio.gather(dispatcher.answer(question, emit), meanwhile)
    return told


def text_of(events):
    return "".join(event.data["text"] for event in events if event.kind == "text")


async def test_tasks_arrive_on_their_queues_and_events_come_back(catalog, broker, redis):
    question = ask(catalog)

    async def worker():
        assert await task_from(redis, QUEUE) == ("almanac.answer", [as_sent(question), 1])
        stream = AnswerStream(redis, question.answer_id)
        for piece in ("It ", "opened."):
            await stream.append(1, Event("text", {"text": piece}))
            await stream.append(1, Event("alive", {}))
        await stream.append(1, Event("done", {"answer": said(question, "It opened.").to_json()}))

    told = await events_of(catalog, broker, question, worker())
    assert [event.kind for event in told] == ["text", "text", "done"]
    await broker.send_job("j")
    assert await task_from(redis, INGEST_QUEUE) == ("almanac.ingest", ["j"])


async def test_a_task_reads_as_celery_itself_would_have_sent_it(valkey, redis):
    given = {"task_id": "a:1", "headers": {"traceparent": "t", "almanac-lending": 1}}
    args = [{"text": "Größe?", "weights": {}}, 1]
    with Celery("test", broker=f"redis+socket://{valkey.socket}", set_as_current=False) as celery:
        celery.send_task("almanac.answer", args, queue="q", ignore_result=True, **given)
    await redis.lpush("q", message("almanac.answer", args, "q", given["headers"], given["task_id"]))
    theirs, ours = (json.loads(raw) for raw in reversed(await redis.lrange("q", 0, -1)))
    for one in (theirs, ours):
        one["body"] = json.loads(base64.b64decode(one["body"]))
        for name in ("argsrepr", "kwargsrepr"):  # for Celery's log
            del one["headers"][name]
        for name in ("delivery_tag", "reply_to"):  # no two are alike; where results would go
            del one["properties"][name]
    assert ours == theirs


async def test_a_stream_that_was_cut_goes_on_at_another_gateway(catalog, redis, valkey, tmp_path):
    question = ask(catalog)
    pieces = [f"{number} " for number in range(40)]

    async def worker():
        await task_from(redis, QUEUE)
        stream = AnswerStream(redis, question.answer_id)
        for piece in pieces:
            await stream.append(1, Event("text", {"text": piece}))
            await asyncio.sleep(0.02)
        await stream.append(1, Event("done", {"answer": said(question, "".join(pieces)).to_json()}))

    async def told(events, has=START):
        """The text of some events beyond the place, and where they end; the client is gone then."""
        opened = Broker(f"unix://{valkey.socket}", QUEUES)
        async with gateway(tmp_path, None, opened) as app:
            context, text = app.state.context, ""
            dispatcher = Dispatcher(context.nodes, opened, Metrics(), 4 * LONG, LONG)
            tells = dispatcher.answer if has == START else following(context, None)
            async with aclosing(rest(context, question, tells, has)) as beyond:
                async for came in beyond:
                    taken = came[:events]
                    text += "".join(event.data.get("text", "") for event, _ in taken)
                    _, place = taken[-1]
                    events -= len(taken)
                    if not events or place.ended:
                        break
        await opened.close()
        return text, place

    async with asyncio.timeout(6 * LONG), asyncio.TaskGroup() as group:
        group.create_task(worker())
        text, place = await told(7)
        while not place.ended:
            more, place = await told(11, place)
            text += more
    assert text == "".join(pieces)


async def test_a_silent_worker_is_replaced_after_the_released_text(catalog, broker, redis):
    question = ask(catalog)

    async def workers():
        await task_from(redis, QUEUE)
        first, second = (AnswerStream(redis, question.answer_id) for _ in range(2))
        await first.append(1, Event("text", {"text": "It "}))
        assert await task_from(redis, QUEUE) == ("almanac.answer", [as_sent(question), 2])
        assert (await second.released()).text == "It "
        await second.append(2, Event("text", {"text": "opened."}))
        await second.append(2, Event("done", {"answer": said(question, "It opened.").to_json()}))

    told = await events_of(catalog, broker, question, workers())
    assert text_of(told) == "It opened."
    assert told[-1].kind == "done"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_broker_lost_in_mid_answer_leaves_the_rest_to_the_gateway(catalog, broker, redis, valkey, how):
    question = ask(catalog)

    async def worker():
        await task_from(redis, QUEUE)
        await AnswerStream(redis, question.answer_id).append(1, Event("text", {"text": "It opened"}))
        await asyncio.sleep(0.1)
        valkey.send(how)

    told = await events_of(catalog, broker, question, worker())
    assert text_of(told) == "It opened and here"
    assert list(told[-1].data["answer"]["degraded"]) == ["broker"]


async def test_a_broker_that_comes_back_is_used_again(broker, valkey):
    await broker.send_job("a")
    assert await broker.alive()
    valkey.kill()
    assert not await broker.alive()
    await valkey.start()
    await broker.send_job("b")
    assert await broker.alive()


async def test_a_question_waits_while_it_is_in_its_queue_and_there_is_a_worker(catalog, broker, redis):
    question = ask(catalog)
    await broker.send_answer(question, 1)
    assert not await broker.waits(question, 1)
    await redis.set(WORKER_ALIVE_KEY, 1, ex=60)
    assert not await broker.waits(question, 1)
    await redis.set(ANSWERING_KEY, 1, ex=60)
    assert [await broker.waits(question, attempt) for attempt in (1, 2)] == [True, False]
    await task_from(redis, QUEUE)
    assert not await broker.waits(question, 1)


async def test_a_worker_is_heard_of_by_its_key(broker, redis):
    assert not await broker.worker_alive()
    await redis.set(WORKER_ALIVE_KEY, 1, ex=6)
    assert await broker.worker_alive()
