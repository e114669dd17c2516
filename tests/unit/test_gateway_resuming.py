"""An answer's stream taken up again: from any event, on any gateway, whole once however it is cut."""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from functools import partial

import pytest

from services.catalog import answers
from services.gateway import resuming
from services.gateway.caller import Caller, authenticate
from services.gateway.dispatch import Dispatcher
from services.gateway.metrics import Metrics
from services.gateway.resuming import START, as_sse, named_in
from services.orchestrator.graph.answer import Event
from tests.fakes.gateway import COLLECTION, MemoryBroker, ask, catalog_in, citation, client_of, gateway, said

ASK = {"question": "When did the harbour open?", "collection": COLLECTION, "stream": True}
PIECES = ("It opened ", "in 1901, ", "für Äste ", "of wood.")
TEXT = "".join(PIECES)
SHORT, LONG = 0.1, 30.0
"""Seconds after which a silent worker is given up: where it is to be, and where it is not."""
CITED = Event("citation", {"citation": citation().to_json()})


class Worker:
    """Says the pieces; the first attempt stops before number `until`: for good or, with `waits`, till it may go on."""

    def __init__(self, question, *, until=None, waits=False, pieces=PIECES):
        self.question, self.until, self.waits, self.pieces = question, until, waits, pieces
        self.go = asyncio.Event()

    @property
    def said(self):
        texts = [Event("text", {"text": piece}) for piece in self.pieces]
        return [Event("step", {"step": "encode", "ms": 1.0}), CITED, *texts]

    async def __call__(self, stream, answer_id, attempt):
        for event in self.said[:2]:
            await stream.append(attempt, event)
        text = (await stream.released()).text
        for number, piece in enumerate(self.pieces):
            if attempt == 1 and number == self.until:
                if not self.waits:
                    return
                await self.go.wait()
            if len("".join(self.pieces[: number + 1])) > len(text):
                await stream.append(attempt, Event("text", {"text": piece}))
                text += piece
        await stream.append(attempt, Event("done", {"answer": said(self.question, text, citation()).to_json()}))


class Asked:
    """A question of which the worker makes the answer, and the gateway that it was asked of."""

    def __init__(self, app, client, broker, question, silence):
        self.app, self.client, self.broker, self.question, self.silence = app, client, broker, question, silence

    def stream(self, answering=None):
        context = self.app.state.context
        dispatcher = Dispatcher(context.nodes, self.broker, Metrics(), LONG, self.silence)
        return as_sse(context, self.question, answering or dispatcher.answer)

    async def rest(self, last="", status=200, answer_id=None):
        path = f"/v1/answers/{answer_id or self.question.answer_id}/events"
        response = await self.client.get(path, headers={"Last-Event-ID": last} if last else {})
        assert response.status_code == status, response.text
        return blocks(response.text) if status == 200 else response

    async def killed(self):
        """What the client has of a gateway that was killed, after the worker had stopped before piece 2."""
        await self.broker.stream(self.question.answer_id).admit(1)
        await self.broker.send_answer(self.question, 1)
        place = START
        for event in self.broker.worker.said[:4]:
            place = place.after(event)
        return place.event_id(self.question.answer_id)

    def outcome(self):
        with self.app.state.context.catalog.read() as tx:
            return answers.outcome(tx, self.question.answer_id)

    def record(self):
        with self.app.state.context.catalog.write() as tx:
            answer = said(self.question, TEXT, citation()).to_json()
            assert answers.record(tx, self.question.answer_id, 1, answers.DONE, answer)


def blocks(text):
    """(id, event, data) of each block; the first one has an id alone."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["id"], fields.get("event"), json.loads(fields.get("data", "null"))))
    return found


def text_in(found):
    return "".join(data["text"] for _, name, data in found if name == "text")


def names(found):
    return [name for _, name, _ in found if name]


async def first(stream, events):
    """The stream's first blocks, up to so many events; then the client is gone."""
    async with aclosing(stream) as chunks:
        found = []
        while len(names(found)) < events:
            found += blocks(await anext(chunks))
        return found


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Opens a gateway with the question on record and a worker for it."""
    catalog = catalog_in(tmp_path)
    question = ask(catalog)
    catalog.close()

    @asynccontextmanager
    async def opened(silence=LONG, broker=None, resume_seconds=LONG, **worker):
        monkeypatch.setattr(resuming, "Dispatcher", partial(Dispatcher, silence=silence))
        broker = broker or MemoryBroker(Worker(question, **worker))
        async with gateway(tmp_path, None, broker, resume_seconds=resume_seconds) as app, client_of(app) as client:
            yield Asked(app, client, broker, question, silence)

    return opened


async def whole(asked):
    return blocks("".join([chunk async for chunk in asked.stream()]))


async def test_every_event_has_an_id_of_its_own_and_the_answer_is_named_before_the_first(asked):
    async with asked() as one:
        found = await whole(one)
    assert names(found) == ["step", "citation", *["text"] * 4, "done"]
    assert found[0][1] is None
    assert len({event_id for event_id, _, _ in found}) == len(found)
    assert {event_id.split("/")[0] for event_id, _, _ in found} == {one.question.answer_id}


@pytest.mark.parametrize("ended", [False, True], ids=["from the stream", "from the record, on a gateway without one"])
async def test_after_any_event_the_rest_comes_and_nothing_twice(asked, ended):
    async with asked() as one:
        found = await whole(one)
        if ended:
            one.record()
            one.broker.streams.clear()
        for number, (event_id, _, _) in enumerate(found[:-1], start=1):
            rest = await one.rest(event_id)
            assert text_in(found[:number]) + text_in(rest) == TEXT
            assert names(found[:number] + rest).count("citation") == 1
            assert names(rest)[-1] == "done" and rest[-1][2]["answer"]["answer"] == TEXT
            assert rest[0][0] == event_id and rest[-1][0] == found[-1][0]
        assert text_in(await one.rest()) == TEXT
        await one.rest(found[-1][0], status=204)
        assert one.broker.sent == [(one.question.answer_id, 1)]


async def test_what_is_still_written_goes_on_where_the_client_was_cut_off(asked):
    async with asked(until=2, waits=True) as one:
        told = await first(one.stream(), 4)
        resumed = asyncio.create_task(one.rest(told[-1][0]))
        await asyncio.sleep(0.02)
        one.broker.worker.go.set()
        rest = await resumed
    assert (text_in(told), names(rest)) == ("".join(PIECES[:2]), ["text", "text", "done"])
    assert text_in(told + rest) == TEXT


async def test_what_nobody_works_on_any_more_is_finished(asked):
    async with asked(SHORT, until=2) as one:
        rest = await one.rest(await one.killed())
        assert text_in(rest) == "".join(PIECES[2:])
        assert one.broker.sent == [(one.question.answer_id, 1), (one.question.answer_id, 2)]


async def test_an_answer_that_reads_differently_is_refused_not_patched(asked):
    async with asked(SHORT, until=2) as one:
        last = await one.killed()
        one.broker.streams.clear()
        one.broker.worker.pieces = ("Quite ", "another ", "answer ", "than before.")
        [_, *rest] = await one.rest(last)
    assert [name for _, name, _ in rest if name in ("text", "done", "error")] == ["error"]
    assert rest[-1][2]["problem"]["type"] == "urn:almanac:error:conflict"


async def test_a_gateway_that_stops_leaves_its_answers_to_the_next(asked):
    async with asked(until=2, waits=True) as one:
        told = await first(one.stream(), 4)
    async with asked(broker=one.broker) as another:
        assert another.outcome() is None
        one.broker.worker.go.set()
        assert text_in(told + await another.rest(told[-1][0])) == TEXT


async def test_an_answer_whose_client_does_not_come_back_ends(asked):
    async with asked(until=2, waits=True, resume_seconds=0.01) as one:
        last = (await first(one.stream(), 4))[-1][0]
        async with asyncio.timeout(LONG):
            while one.outcome() is None:  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0.01)
        assert names(await one.rest(last)) == ["error"]


async def test_a_failed_answer_ends_with_its_problem_again(asked):
    async with asked() as one:
        with one.app.state.context.catalog.write() as tx:
            answers.record(tx, one.question.answer_id, 1, answers.FAILED, {"type": "x", "title": "t", "status": 500})
        assert names(await one.rest()) == ["error"]


async def test_a_client_that_sends_its_request_again_goes_on_and_asks_nothing_new(asked):
    async with asked() as one:
        found = await whole(one)
        again = await one.client.post("/v1/answers", json=ASK, headers={"Last-Event-ID": found[3][0]})
        assert text_in(found[:4]) + text_in(blocks(again.text)) == TEXT
        assert [answer_id for answer_id, _ in one.broker.sent] == [one.question.answer_id]


@pytest.mark.parametrize("last", ["x", "12", "{id}/1.1.1", "{id}/1.1.1.0000000g", "{other}/0.0.0.00000000", "{id}/-1"])
async def test_an_id_of_no_event_of_the_answer_is_refused(asked, last):
    async with asked() as one:
        given = last.format(id=one.question.answer_id, other="0" * 36)
        assert "Last-Event-ID" in (await one.rest(given, status=400)).json()["detail"]


async def test_there_is_nothing_to_follow_of_another_tenants_answer_or_of_none(asked):
    async with asked() as one:
        found = await whole(one)
        await one.rest(status=404, answer_id="0" * 36)
        one.app.dependency_overrides[authenticate] = lambda: Caller("other")
        await one.rest(found[2][0], status=404)
        await one.rest(found[-1][0], status=404)


def test_an_id_names_its_answer_and_its_place():
    place = START
    for event in (Event("step", {}), Event("citation", {}), Event("text", {"text": "Ä"}), Event("text", {"text": "b"})):
        place = place.after(event)
    assert named_in(place.event_id("a-1")) == ("a-1", place)
    assert place == START.after(Event("step", {})).after(Event("citation", {})).after(Event("text", {"text": "Äb"}))
