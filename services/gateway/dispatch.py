"""How a question is answered: by a worker, by a second one if the first falls silent, and else here.

Whoever answers, the client sees no text twice and always either `done` or `error`, and the answer is recorded once.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

import structlog
from sqlalchemy.exc import OperationalError

from services.catalog import answers, events
from services.catalog.engine import Database
from services.common.errors import AlmanacError, DeadlineExceeded, Internal, Unavailable
from services.common.moment import now
from services.common.rpc.deadlines import deadline
from services.gateway.broker import FAILURES
from services.gateway.metrics import Metrics
from services.orchestrator.graph.answer import Answer, Emit, Event, Question, ending
from services.orchestrator.graph.lending import lend
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.released import Released
from services.orchestrator.graph.run import answer as run_graph
from services.orchestrator.graph.stream import SILENCE_SECONDS, AnswerStream

log = structlog.get_logger()

WORKERS = 2
"""How many workers an answer is sent to before the gateway answers it."""

_POLL_SECONDS = 0.5
"""How long one read of the stream blocks; below the socket's own timeout."""

_RECORD_SECONDS = 1.0

Answering = Callable[[Question, Emit], Awaitable[None]]
"""Tells every event of an answer, `done` or `error` last; never raises."""

Outcome = tuple[str, Mapping[str, Any]]
"""How an answer ended: its state and its record."""

RunGraph = Callable[[Nodes, Question, Emit, Released], Awaitable[Answer]]


class Dispatching(Protocol):
    """What the dispatcher needs of a broker."""

    def stream(self, answer_id: str) -> AnswerStream: ...

    async def send_answer(self, question: Question, attempt: int, lending: bool = False) -> None: ...

    async def waits(self, question: Question, attempt: int) -> bool: ...


class Dispatcher:
    """Answers questions within `seconds` each; a worker unheard of for `silence` seconds is given up.

    A question that waits in line is no worker's yet: it goes on waiting.
    """

    def __init__(
        self,
        nodes: Nodes,
        broker: Dispatching,
        metrics: Metrics,
        seconds: float,
        silence: float = SILENCE_SECONDS,
        run: RunGraph = run_graph,
    ) -> None:
        self.nodes, self.broker, self.metrics = nodes, broker, metrics
        self.seconds, self.silence, self.run = seconds, silence, run

    async def answer(self, question: Question, emit: Emit) -> None:
        """Answer a question whose row is in the catalog."""
        await self._tell(_Asked(self, question, emit))

    async def follow(self, question: Question, emit: Emit) -> None:
        """Tell all of an answer that was asked before; one that nobody works on any more is finished."""
        await self._tell(_Asked(self, question, emit, before=True))

    async def _tell(self, asked: _Asked) -> None:
        try:
            with deadline(self.seconds):
                async with asyncio.timeout(self.seconds):
                    await asked.answer()
        except asyncio.CancelledError:
            await asked.leave()
            raise
        except TimeoutError:
            await asked.fail(DeadlineExceeded(f"the answer took longer than {self.seconds:g} s"))
        except OperationalError:
            log.exception("catalog_failed", answer_id=asked.answer_id)
            await asked.fail(Unavailable("the catalog does not answer; the gateway's log says why"))
        except AlmanacError as error:
            await asked.fail(error)
        except Exception:
            log.exception("answer_failed", answer_id=asked.answer_id)
            await asked.fail(Internal("the answer failed unexpectedly; the gateway's log says why"))


class _Asked:
    """One question on its way to its answer. before: it was sent to a worker by another request."""

    def __init__(self, dispatcher: Dispatcher, question: Question, emit: Emit, before: bool = False) -> None:
        self._by, self._question, self._emit, self._before = dispatcher, question, emit, before
        self.answer_id = question.answer_id
        self._stream = dispatcher.broker.stream(self.answer_id)
        self._reader = uuid.uuid4().hex if before else ""
        self._attempt = 1
        self._lending: asyncio.Future[None] | None = None
        self._position = "0"
        self._told = ""
        self._cited: list[Mapping[str, Any]] = []
        self._evidence: dict[int, Mapping[str, Any]] = {}
        self._began = asyncio.get_running_loop().time()

    async def answer(self) -> None:
        try:
            lost = await self._through_workers()
            if lost is not None:
                await self._here(lost)
        finally:
            if self._lending is not None:
                self._lending.cancel()

    async def fail(self, error: AlmanacError) -> None:
        """The end, badly, unless it has ended well meanwhile."""
        await self._tell_end(await self._end(error))

    async def leave(self) -> None:
        """The client is gone. Where no other reader has come, the answer ends, and whoever works on it stops."""
        with suppress(*FAILURES):
            if await self._stream.followed(self._reader):
                return
        await self._end(Unavailable("the client has left"))

    async def _end(self, error: AlmanacError) -> Outcome:
        """How the answer ended: with this error, if it had not; on record, if that can be done in no time."""
        failed = answers.FAILED, error.problem()
        try:
            async with asyncio.timeout(_RECORD_SECONDS):
                ended = await asyncio.to_thread(self._close, failed)
        except (OperationalError, TimeoutError) as failure:
            log.error("answer_not_recorded", answer_id=self.answer_id, reason=str(failure))
            return failed
        if ended is failed:
            with suppress(*FAILURES):
                async with asyncio.timeout(_RECORD_SECONDS):
                    await self._stream.admit(self._attempt + 1)
        return ended or failed

    async def _through_workers(self) -> str | None:
        """None once the answer has ended; else what was lost: the workers, or the broker."""
        try:
            for attempt in range(WORKERS):
                if attempt and await self._take_over():
                    return None
                await self._send(attempt)
                if await self._relay():
                    return None
                self._by.metrics.redispatched.inc()
                log.warning("worker_silent", answer_id=self.answer_id, attempt=self._attempt)
        except FAILURES as failure:
            log.warning("broker_lost", answer_id=self.answer_id, reason=str(failure))
            return "broker"
        return "worker"

    async def _send(self, attempt: int) -> None:
        """Have a worker answer: the first one, or one after it, which goes on from what the client has."""
        if self._before and not attempt:
            await self._stream.follow(self._reader)
            return
        if not attempt:
            self._lending = asyncio.ensure_future(self._lend())
        else:
            await self._stream.admit(self._attempt)  # before what is there is read
            for position, event in await self._stream.rest(self._position):
                self._position = position
                await self._tell(event)
            await self._stream.hand_over(self._released)
        await self._by.broker.send_answer(self._question, self._attempt, lending=not attempt)

    async def _lend(self) -> None:
        with suppress(*FAILURES):  # whoever reads the stream sees them too
            await lend(self._by.nodes, self._stream, self._question)

    async def _relay(self) -> bool:
        """Tell what the stream tells, to its last event; False once it has been silent for too long."""
        clock = asyncio.get_running_loop().time
        heard = clock()
        while True:
            try:
                async for position, event in self._stream.read(min(_POLL_SECONDS, self._by.silence), self._position):
                    self._position, heard = position, clock()
                    if await self._tell(event):
                        return True
            except TimeoutError:
                if clock() - heard >= self._by.silence:
                    if not await self._by.broker.waits(self._question, self._attempt):
                        return False
                    heard = clock()

    async def _here(self, lost: str) -> None:
        """Run the graph in this process, without what was lost."""
        if await self._take_over():
            return
        if lost == "worker":
            with suppress(*FAILURES):
                await self._stream.admit(self._attempt)
        found = await self._by.run(self._by.nodes, self._question, self._tell_quietly, self._released)
        answer = replace(found, degraded=(*found.degraded, lost)).to_json()
        done = answers.DONE, answer
        ended = await asyncio.to_thread(self._close, done)
        await self._tell_end(ended or done)

    async def _take_over(self) -> bool:
        """Fence whoever works on the answer; True if somebody had finished it, which is then told."""
        self._attempt, outcome = await asyncio.to_thread(self._fence)
        self._evidence = self._evidence if self._told else {}
        return outcome is not None and await self._tell_end(outcome)

    async def _tell_end(self, outcome: Outcome) -> bool:
        """Tell how the answer ended, and what the client lacks of its text."""
        state, record = outcome
        if state != answers.FAILED and (rest := str(record["answer"]).removeprefix(self._told)):
            await self._tell(Event("text", {"text": rest}))
        return await self._tell(ending(state, record))

    async def _tell_quietly(self, event: Event) -> None:
        await self._tell(event)

    async def _tell(self, event: Event) -> bool:
        """Pass an event on, unless the client knows it already; True if it is the last one."""
        if event.kind == "alive" or (event.kind == "citation" and not self._is_new(event.data["citation"])):
            return False
        self._note(event)
        await self._emit(event)
        return event.kind in ("done", "error")

    def _is_new(self, citation: Mapping[str, Any]) -> bool:
        """Whether the client does not have it from an earlier attempt; what text there is rests on the newest."""
        self._evidence[citation["n"]] = citation
        known = citation in self._cited
        self._cited += [] if known else [citation]
        return not known

    @property
    def _released(self) -> Released:
        """What the client has."""
        return Released.of(self._told, list(self._evidence.values()))

    def _note(self, event: Event) -> None:
        metrics = self._by.metrics
        if event.kind == "text":
            if not (self._told or self._before):
                metrics.first_text_seconds.observe(asyncio.get_running_loop().time() - self._began)
            self._told += event.data["text"]
        elif event.kind == "done":
            metrics.answered(event.data["answer"])
        elif event.kind == "error":
            metrics.failures.labels(str(event.data["problem"]["type"]).rpartition(":")[2]).inc()

    @property
    def _catalog(self) -> Database:
        return self._by.nodes.catalog

    def _fence(self) -> tuple[int, Outcome | None]:
        with self._catalog.write() as tx:
            return answers.next_attempt(tx, self.answer_id), answers.outcome(tx, self.answer_id)

    def _close(self, outcome: Outcome) -> Outcome | None:
        """The outcome on record: this one, or one from before; None where a later attempt works on the answer."""
        with self._catalog.write() as tx:
            recorded = events.record_answer(tx, self.answer_id, self._attempt, *outcome, now())
            return outcome if recorded else answers.outcome(tx, self.answer_id)
