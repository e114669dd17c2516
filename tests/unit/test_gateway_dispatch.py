"""How a question is answered when workers fall silent, the broker goes away, or time runs out."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.catalog import answers
from services.common.errors import Unavailable
from services.gateway.dispatch import Dispatcher
from services.gateway.metrics import Metrics
from services.orchestrator.graph.answer import Event
from services.orchestrator.graph.released import NOTHING, Released
from services.orchestrator.graph.stream import Fenced
from tests.fakes.gateway import MemoryBroker, ask, catalog_in, citation, nodes_over, said

SILENCE = 0.2


@pytest.fixture
def catalog(tmp_path):
    opened = catalog_in(tmp_path)
    yield opened
    opened.close()


class Graph:
    """The graph as the gateway runs it: says `text` after the prefix, or raises."""

    def __init__(self, text="It opened in 1901.", error=None, forever=False):
        self.text, self.error, self.forever = text, error, forever
        self.prefixes, self.cancelled = [], False
        self.begun = asyncio.Event()

    async def __call__(self, nodes, question, emit, released):
        self.prefixes.append(released.text)
        self.begun.set()
        if self.error:
            raise self.error
        try:
            await asyncio.sleep(60 if self.forever else 0)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        await emit(Event("citation", {"citation": citation().to_json()}))
        await emit(Event("text", {"text": self.text.removeprefix(released.text)}))
        return said(question, self.text, citation())


def text_of(events):
    return "".join(event.data["text"] for event in events if event.kind == "text")


def kinds(events):
    return [event.kind for event in events]


async def events_of(catalog, broker, graph, question=None, seconds=5.0):
    told = []

    async def emit(event):
        told.append(event)

    dispatcher = Dispatcher(nodes_over(catalog), broker, Metrics(), seconds, SILENCE, graph)
    await dispatcher.answer(question or ask(catalog), emit)
    assert kinds(told)[-1] in ("done", "error")
    assert not {"done", "error"} & set(kinds(told)[:-1])
    return told


def worker(catalog, question, *pieces, silent_after=None, record=True, last=True):
    """A worker that says the pieces, the first attempt falling silent after so many of them."""

    async def work(stream, answer_id, attempt):
        try:
            text = (await stream.released()).text
            await stream.append(attempt, Event("citation", {"citation": citation().to_json()}))
            for number, piece in enumerate(pieces):
                if attempt == 1 and number == silent_after:
                    return
                if not "".join(pieces[: number + 1]) > text:
                    continue
                await stream.append(attempt, Event("text", {"text": piece}))
                text += piece
            answer = said(question, text, citation()).to_json()
            if record:
                with catalog.write() as tx:
                    assert answers.record(tx, answer_id, attempt, answers.DONE, answer)
            if last:
                await stream.append(attempt, Event("done", {"answer": answer}))
        except Fenced:
            return

    return work


async def test_a_worker_answers_and_the_gateway_only_passes_on(catalog):
    question, graph = ask(catalog), Graph()
    broker = MemoryBroker(worker(catalog, question, "It opened", " in 1901."))
    told = await events_of(catalog, broker, graph, question)
    assert kinds(told) == ["citation", "text", "text", "done"]
    assert broker.sent == [(question.answer_id, 1)]
    assert graph.prefixes == []


async def test_the_first_worker_is_lent_the_question_s_vector(catalog):
    question = ask(catalog)
    broker = MemoryBroker(worker(catalog, question, "It opened", " in 1901.", silent_after=0))
    await events_of(catalog, broker, Graph(), question)
    [vector] = broker.stream(question.answer_id).vectors
    assert len(vector) == 4 * question.generation.dimensions
    assert broker.lending == [True, False]


async def test_heartbeats_keep_a_slow_worker_and_are_not_passed_on(catalog):
    question, graph = ask(catalog), Graph()

    async def slow(stream, answer_id, attempt):
        for _ in range(8):
            await stream.append(attempt, Event("alive", {}))
            await asyncio.sleep(SILENCE / 2)
        await stream.append(attempt, Event("done", {"answer": said(question, "").to_json()}))

    broker = MemoryBroker(slow)
    assert kinds(await events_of(catalog, broker, graph, question)) == ["done"]
    assert len(broker.sent) == 1


async def test_a_silent_worker_is_replaced_and_no_text_comes_twice(catalog):
    question, graph = ask(catalog), Graph()
    broker = MemoryBroker(worker(catalog, question, "It opened", " in 1901.", silent_after=1))
    told = await events_of(catalog, broker, graph, question)
    assert [attempt for _, attempt in broker.sent] == [1, 2]
    assert text_of(told) == "It opened in 1901."
    assert kinds(told).count("citation") == 1
    assert list(told[-1].data["answer"]["degraded"]) == []
    assert graph.prefixes == []


async def test_a_question_that_waits_in_line_is_sent_to_no_second_worker(catalog):
    question, graph = ask(catalog), Graph()
    says = worker(catalog, question, "It opened", " in 1901.")

    async def busy(stream, answer_id, attempt):
        await asyncio.sleep(4 * SILENCE)
        broker.waiting.clear()
        await says(stream, answer_id, attempt)

    broker = MemoryBroker(busy)
    broker.waiting.add(1)
    told = await events_of(catalog, broker, graph, question)
    assert broker.sent == [(question.answer_id, 1)]
    assert (text_of(told), graph.prefixes) == ("It opened in 1901.", [])


async def test_the_silent_worker_is_fenced_in_the_stream_and_in_the_catalog(catalog):
    question = ask(catalog)
    broker = MemoryBroker(worker(catalog, question, "It opened", " in 1901.", silent_after=0))
    await events_of(catalog, broker, Graph(), question)
    with pytest.raises(Fenced):
        await broker.stream(question.answer_id).append(1, Event("text", {"text": "late"}))
    with catalog.write() as tx:
        assert not answers.record(tx, question.answer_id, 1, answers.DONE, {})


async def test_after_the_second_silence_the_gateway_answers_itself_and_says_so(catalog):
    question, graph = ask(catalog), Graph()

    async def dies(stream, answer_id, attempt):
        if attempt == 1:
            await stream.append(attempt, Event("text", {"text": "It opened"}))

    told = await events_of(catalog, MemoryBroker(dies), graph, question)
    assert graph.prefixes == ["It opened"]
    assert text_of(told) == "It opened in 1901."
    assert list(told[-1].data["answer"]["degraded"]) == ["worker"]
    with catalog.read() as tx:
        assert answers.get(tx, "local", question.answer_id)["degraded"] == ["worker"]


async def test_without_a_broker_the_gateway_answers_itself_at_once_and_says_so(catalog):
    question, graph = ask(catalog), Graph()
    clock = asyncio.get_running_loop().time
    began = clock()
    told = await events_of(catalog, MemoryBroker(down=True), graph, question)
    assert clock() - began < SILENCE
    assert graph.prefixes == [""]
    assert list(told[-1].data["answer"]["degraded"]) == ["broker"]
    with catalog.read() as tx:
        assert answers.get(tx, "local", question.answer_id)["answer"] == "It opened in 1901."


async def test_a_broker_lost_in_mid_answer_costs_no_text_and_repeats_none(catalog):
    question, graph = ask(catalog), Graph()

    async def cut_off(stream, answer_id, attempt):
        await stream.append(attempt, Event("text", {"text": "It opened"}))
        await stream.lose(RedisConnectionError("gone"))

    told = await events_of(catalog, MemoryBroker(cut_off), graph, question)
    assert graph.prefixes == ["It opened"]
    assert text_of(told) == "It opened in 1901."
    assert list(told[-1].data["answer"]["degraded"]) == ["broker"]


async def test_an_answer_recorded_before_its_worker_fell_silent_is_told_from_the_record(catalog):
    question, graph = ask(catalog), Graph()
    with catalog.write() as tx:
        record = said(question, "It opened in 1901.").to_json()
        answers.record(tx, question.answer_id, 1, answers.DONE, record)

    async def says_little(stream, answer_id, attempt):
        await stream.append(attempt, Event("text", {"text": "It opened"}))

    broker = MemoryBroker(says_little)
    told = await events_of(catalog, broker, graph, question)
    assert text_of(told) == "It opened in 1901."
    assert len(broker.sent) == 1
    assert graph.prefixes == []


async def test_text_lost_with_the_broker_is_not_told_again_by_the_next_worker(catalog):
    question, handed_over = ask(catalog), []

    async def forgotten(stream, answer_id, attempt):
        if attempt == 1:
            await stream.append(attempt, Event("text", {"text": "It opened"}))
            await asyncio.sleep(SILENCE / 2)
            broker.streams[answer_id].events[0] = Event("alive", {})
            return
        handed_over.append((await stream.released()).text)
        await stream.append(attempt, Event("text", {"text": " in 1901."}))
        await stream.append(attempt, Event("done", {"answer": said(question, "It opened in 1901.").to_json()}))

    broker = MemoryBroker(forgotten)
    assert text_of(await events_of(catalog, broker, Graph(), question)) == "It opened in 1901."
    assert handed_over == ["It opened"]


async def test_text_between_the_last_look_and_the_fence_is_told_and_handed_over(catalog):
    question, handed_over = ask(catalog), []

    async def late(stream, answer_id, attempt):
        if attempt == 1:
            admit = stream.admit

            async def admit_after_a_word(number):
                await stream.append(1, Event("text", {"text": "It opened"}))
                await admit(number)

            stream.admit = admit_after_a_word
            return
        handed_over.append((await stream.released()).text)
        await stream.append(attempt, Event("text", {"text": " in 1901."}))
        await stream.append(attempt, Event("done", {"answer": said(question, "It opened in 1901.").to_json()}))

    assert text_of(await events_of(catalog, MemoryBroker(late), Graph(), question)) == "It opened in 1901."
    assert handed_over == ["It opened"]


async def handed_over_by(catalog, *told):
    """What the second worker is handed, after the first has told this; and the citations that the client got."""
    question, handed_over = ask(catalog), []

    async def work(stream, answer_id, attempt):
        if attempt == 1:
            for event in told:
                await stream.append(attempt, event)
            return
        handed_over.append(await stream.released())
        await stream.append(attempt, Event("citation", {"citation": citation().to_json()}))
        await stream.append(attempt, Event("done", {"answer": said(question, "It opened").to_json()}))

    events = await events_of(catalog, MemoryBroker(work), Graph(), question)
    return handed_over[0], [event.data["citation"]["n"] for event in events if event.kind == "citation"]


CITED = [Event("citation", {"citation": citation(n).to_json()}) for n in (1, 2)]


async def test_the_next_worker_goes_on_with_the_quotes_that_the_text_cites(catalog):
    text = Event("text", {"text": "It opened"})
    assert await handed_over_by(catalog, *CITED, text) == (Released("It opened", (citation(1), citation(2))), [1, 2])


async def test_quotes_that_no_text_cites_yet_do_not_bind_the_next_worker(catalog):
    assert await handed_over_by(catalog, *CITED) == (NOTHING, [1, 2])


async def left(catalog, broker, graph, question, tell="answer"):
    """Ask, and leave once something is under way."""
    told = asyncio.Event()

    async def emit(event):
        told.set()

    dispatcher = Dispatcher(nodes_over(catalog), broker, Metrics(), 5.0, SILENCE, graph)
    working = asyncio.ensure_future(getattr(dispatcher, tell)(question, emit))
    if graph.forever:
        await graph.begun.wait()
    else:
        await told.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


def ended(catalog, question):
    with catalog.read() as tx:
        return answers.outcome(tx, question.answer_id)


async def begins(stream, answer_id, attempt):
    await stream.append(attempt, Event("text", {"text": "It opened"}))


async def test_the_answer_of_a_client_that_leaves_ends_and_its_worker_stops(catalog):
    question, broker = ask(catalog), MemoryBroker(begins)
    await left(catalog, broker, Graph(), question)
    state, problem = ended(catalog, question)
    assert state == answers.FAILED and problem["detail"] == "the client has left"
    with pytest.raises(Fenced):
        await broker.stream(question.answer_id).append(1, Event("text", {"text": " in 1901."}))


async def test_the_answer_of_a_client_that_leaves_ends_without_a_broker_too(catalog):
    question, graph = ask(catalog), Graph(forever=True)
    await left(catalog, MemoryBroker(down=True), graph, question)
    assert graph.cancelled and ended(catalog, question)[0] == answers.FAILED


async def test_a_client_that_comes_back_before_it_is_given_up_keeps_its_answer(catalog):
    question, broker = ask(catalog), MemoryBroker(begins)
    await broker.stream(question.answer_id).follow("another")
    await left(catalog, broker, Graph(), question)
    assert ended(catalog, question) is None
    await left(catalog, broker, Graph(), question, "follow")
    assert ended(catalog, question)[0] == answers.FAILED


async def test_an_answer_that_ended_as_its_time_ran_out_is_told(catalog):
    question = ask(catalog)

    async def records_and_dies(stream, answer_id, attempt):
        with catalog.write() as tx:
            answers.record(tx, answer_id, attempt, answers.DONE, said(question, "It opened in 1901.").to_json())

    told = []

    async def emit(event):
        told.append(event)

    await Dispatcher(nodes_over(catalog), MemoryBroker(records_and_dies), Metrics(), 0.2, 5.0).answer(question, emit)
    assert text_of(told) == "It opened in 1901." and kinds(told)[-1] == "done"


async def test_a_failure_recorded_by_a_worker_is_told_from_the_record(catalog):
    question = ask(catalog)
    with catalog.write() as tx:
        answers.record(tx, question.answer_id, 1, answers.FAILED, Unavailable("no retriever").problem())
    told = await events_of(catalog, MemoryBroker(), Graph(), question)
    assert told[-1].data["problem"]["detail"] == "no retriever"


async def test_a_workers_error_is_the_last_event(catalog):
    async def fails(stream, answer_id, attempt):
        await stream.append(attempt, Event("error", {"problem": Unavailable("no retriever").problem()}))

    told = await events_of(catalog, MemoryBroker(fails), Graph())
    assert kinds(told) == ["error"]


async def test_an_answer_that_takes_too_long_ends_in_time_with_an_error_on_record(catalog):
    question, graph = ask(catalog), Graph(forever=True)
    told = await events_of(catalog, MemoryBroker(down=True), graph, question, seconds=0.2)
    assert told[-1].data["problem"]["type"] == "urn:almanac:error:deadline-exceeded"
    assert graph.cancelled
    with catalog.read() as tx:
        assert answers.outcome(tx, question.answer_id)[0] == answers.FAILED


@pytest.mark.parametrize(
    ("error", "kind"), [(Unavailable("no retriever"), "unavailable"), (ZeroDivisionError(), "internal")]
)
async def test_a_graph_that_fails_ends_with_an_error_without_a_traceback(catalog, error, kind):
    told = await events_of(catalog, MemoryBroker(down=True), Graph(error=error))
    assert told[-1].kind == "error"
    assert told[-1].data["problem"]["type"].endswith(kind)
    assert "ZeroDivision" not in str(told[-1].data)
