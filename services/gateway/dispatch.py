"""How a question is answered: by a worker, by a second one if the first falls silent, and else here.

Whoever answers, the client sees no text twice and always either `done` or `error`, and the answer is recorded once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
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
from services.orchestrator.graph.answer import Answer, Emit, Event, Question
from services.orchestrator.graph.nodes import Nodes
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

RunGraph = Callable[[Nodes, Question, Emit, str], Awaitable[Answer]]


class Dispatching(Protocol):
    """What the dispatcher needs of a broker."""

    def stream(self, answer_id: str) -> AnswerStream: ...

    async def send_answer(self, answer_id: str, attempt: int) -> None: ...


class Dispatcher:
    """Answers questions within `seconds` each; a worker unheard of for `silence` seconds is given up."""

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
        asked = _Asked(self, question, emit)
        try:
            with deadline(self.seconds):
                async with asyncio.timeout(self.seconds):
                    await asked.answer()
        except TimeoutError:
            await asked.fail(DeadlineExceeded(f"the answer took longer than {self.seconds:g} s"))
        except OperationalError:
            log.exception("catalog_failed", answer_id=question.answer_id)
            await asked.fail(Unavailable("the catalog does not answer; the gateway's log says why"))
        except AlmanacError as error:
            await asked.fail(error)
        except Exception:
            log.exception("answer_failed", answer_id=question.answer_id)
            await asked.fail(Internal("the answer failed unexpectedly; the gateway's log says why"))


class _Asked:
    """One question on its way to its answer."""

    def __init__(self, dispatcher: Dispatcher, question: Question, emit: Emit) -> None:
        self._by, self._question, self._emit = dispatcher, question, emit
        self._id = question.answer_id
        self._attempt = 1
        self._position = "0"
        self._told = ""
        self._cited: list[Mapping[str, Any]] = []
        self._began = asyncio.get_running_loop().time()

    async def answer(self) -> None:
        lost = await self._through_workers()
        if lost is not None:
            await self._here(lost)

    async def fail(self, error: AlmanacError) -> None:
        """The end, badly; recorded if that can be done in no time."""
        problem = error.problem()
        try:
            async with asyncio.timeout(_RECORD_SECONDS):
                await asyncio.to_thread(self._record, answers.FAILED, problem)
        except (OperationalError, TimeoutError) as failure:
            log.error("answer_not_recorded", answer_id=self._id, reason=str(failure))
        await self._tell(Event("error", {"problem": problem}))

    async def _through_workers(self) -> str | None:
        """None once the answer has ended; else what was lost: the workers, or the broker."""
        try:
            for attempt in range(WORKERS):
                if attempt and await self._take_over():
                    return None
                stream = self._by.broker.stream(self._id)
                await stream.admit(self._attempt)
                await self._by.broker.send_answer(self._id, self._attempt)
                if await self._relay(stream):
                    return None
                self._by.metrics.redispatched.inc()
                log.warning("worker_silent", answer_id=self._id, attempt=self._attempt)
        except FAILURES as failure:
            log.warning("broker_lost", answer_id=self._id, reason=str(failure))
            return "broker"
        return "worker"

    async def _relay(self, stream: AnswerStream) -> bool:
        """Tell what the stream tells, to its last event; False once it has been silent for too long."""
        clock = asyncio.get_running_loop().time
        heard = clock()
        while True:
            try:
                async for position, event in stream.read(min(_POLL_SECONDS, self._by.silence), self._position):
                    self._position, heard = position, clock()
                    if await self._tell(event):
                        return True
            except TimeoutError:
                if clock() - heard >= self._by.silence:
                    return False

    async def _here(self, lost: str) -> None:
        """Run the graph in this process, without what was lost."""
        if await self._take_over():
            return
        found = await self._by.run(self._by.nodes, self._question, self._tell_quietly, self._told)
        answer = replace(found, degraded=(*found.degraded, lost)).to_json()
        await asyncio.to_thread(self._record, answers.DONE, answer)
        await self._tell(Event("done", {"answer": answer}))

    async def _take_over(self) -> bool:
        """Fence whoever works on the answer; True if somebody had finished it, which is then told."""
        self._attempt, outcome = await asyncio.to_thread(self._fence)
        if outcome is None:
            return False
        state, record = outcome
        if state == answers.FAILED:
            return await self._tell(Event("error", {"problem": record}))
        if rest := str(record["answer"]).removeprefix(self._told):
            await self._tell(Event("text", {"text": rest}))
        return await self._tell(Event("done", {"answer": record}))

    async def _tell_quietly(self, event: Event) -> None:
        await self._tell(event)

    async def _tell(self, event: Event) -> bool:
        """Pass an event on, unless the client knows it already; True if it is the last one."""
        if event.kind == "alive" or (event.kind == "citation" and event.data in self._cited):
            return False
        self._note(event)
        await self._emit(event)
        return event.kind in ("done", "error")

    def _note(self, event: Event) -> None:
        metrics = self._by.metrics
        if event.kind == "citation":
            self._cited.append(event.data)
        elif event.kind == "text":
            if not self._told:
                metrics.first_text_seconds.observe(asyncio.get_running_loop().time() - self._began)
            self._told += event.data["text"]
        elif event.kind == "done":
            metrics.answered(event.data["answer"])
        elif event.kind == "error":
            metrics.failures.labels(str(event.data["problem"]["type"]).rpartition(":")[2]).inc()

    @property
    def _catalog(self) -> Database:
        return self._by.nodes.catalog

    def _fence(self) -> tuple[int, tuple[str, Mapping[str, Any]] | None]:
        with self._catalog.write() as tx:
            return answers.next_attempt(tx, self._id), answers.outcome(tx, self._id)

    def _record(self, state: str, found: Mapping[str, Any]) -> bool:
        with self._catalog.write() as tx:
            return events.record_answer(tx, self._id, self._attempt, state, found, now())
