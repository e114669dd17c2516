"""A gateway for tests: its context over a catalog in a temporary directory, its broker in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from redis.exceptions import ConnectionError as RedisConnectionError

from services.catalog import answers
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.records import DocumentIn, Generation, PassageIn
from services.catalog.state import VIEWS, ensure_generation, index_reader, set_watermark, view_reader
from services.common.errors import NotFound
from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span, now
from services.common.nodes.features import FeatureRow, ViewState
from services.common.nodes.retriever import Found, Hit, Query, Stage, Standing, Target
from services.common.nodes.scope import Scope
from services.gateway.app import create_app
from services.gateway.context import Context
from services.gateway.dispatch import Answering
from services.gateway.metrics import Metrics
from services.gateway.settings import GatewaySettings
from services.orchestrator.graph.answer import Answer, Citation, Emit, Event, Question
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.released import NOTHING, Released
from services.orchestrator.graph.stream import Fenced
from tests.fakes.encoder import FakeEncoder
from tests.fakes.generator import FakeGenerator
from tests.support import eventually, free_port

GENERATION = Generation("g1", "all-MiniLM-L6-v2", 64)
COLLECTION = "notes"
TEXT = "The harbour opened in 1901. It closed in 1950."


def catalog_in(directory: Path) -> Database:
    """A catalog with one document of one passage, in collection `notes` of tenant `local`, applied by every reader."""
    database = Database(f"sqlite:///{directory / 'catalog.db'}")
    with database.write() as tx:
        ensure_generation(tx, GENERATION)
        recorder = Recorder(tx, "local", COLLECTION)
        recorder.document(document())
        recorded = recorder.close()
        for reader in (index_reader(GENERATION.name), *(view_reader(view) for view in VIEWS)):
            set_watermark(tx, reader, "local", COLLECTION, recorded)
    return database


def document() -> DocumentIn:
    passage = PassageIn(0, ("History",), 0, len(TEXT), f"Harbour {TEXT}")
    return DocumentIn("port/harbour", "Harbour", TEXT, uri="https://example.org/harbour", passages=(passage,))


class OnePassage:
    """A retriever that finds the catalog's one passage, and remembers what it was asked.

    `recorded_at`: to moments before, it shows nothing.
    """

    def __init__(self, recorded_at: int = 0) -> None:
        self.queries: list[Query] = []
        self.recorded_at = recorded_at

    async def search(self, query: Query) -> Found:
        self.queries.append(query)
        if query.target is Target.QUESTIONS or query.scope.moment.known_at < self.recorded_at:
            return Found([])
        row = document()
        passage = row.passage_id(query.scope.tenant, query.scope.collection, row.passages[0])
        everywhere = Extent(Span(OPEN_START, OPEN_END), Span(0, OPEN_END))
        hit = Hit(passage, row.doc_id, 0.5, 0.9, 1.5, everywhere, dense_rank=1, lexical_rank=2)
        return Found([hit], [Stage("dense", "codes", 1, 3, 0.25)])

    async def standing(self, generation: str) -> Standing | None:
        return None


class NothingKnown:
    """A features node whose views are there, but no row."""

    async def read(self, scope: Scope, view: str, entities: Sequence[str], online: bool = False) -> list[FeatureRow]:
        return [FeatureRow(entity) for entity in entities]

    async def training(
        self, tenant: str, collection: str, view: str, asked: Sequence[tuple[str, int]]
    ) -> list[FeatureRow]:
        self._find(view)
        return [FeatureRow(entity) for entity, _ in asked]

    async def materialize(self, view: str) -> int:
        self._find(view)
        return now()

    async def apply(self, dry_run: bool) -> list[str]:
        return []

    async def describe(self, tenant: str, view: str = "", statistics: bool = False) -> list[ViewState]:
        return [ViewState(name, 0, 0, 0, {}, OPEN_START, ()) for name in VIEWS]

    def _find(self, view: str) -> None:
        if view not in VIEWS:
            raise NotFound(f"there is no feature view {view!r}")


def nodes_over(catalog: Database, generator: FakeGenerator | None = None, recorded_at: int = 0) -> Nodes:
    parts = (FakeEncoder(), OnePassage(recorded_at), NothingKnown(), generator or FakeGenerator())
    return Nodes(catalog, *parts)  # type: ignore[arg-type]


def said(question: Question, text: str, *citations: Citation, **changed: Any) -> Answer:
    """An answer to the question in these words."""
    fields = {
        "grounding": "generated",
        "degraded": (),
        "timings_ms": {"encode": 1.0},
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        "models": {"encoder": "e"},
        "generation": question.generation.name,
        **changed,
    }
    return Answer(question.answer_id, question.text, question.collection, text, citations, question.moment, **fields)


def citation(n: int = 1) -> Citation:
    return Citation(n, "passage", "port/harbour", "v", "p", "Harbour", "", TEXT[:27], 0, 27, 0, 1, 0, 0.5)


def answering(text: str = "It opened in 1901.", **changed: Any) -> Answering:
    """Answers everything with the text, in two pieces, with one citation."""

    async def answer(question: Question, emit: Emit) -> None:
        await emit(Event("step", {"step": "encode", "ms": 1.0}))
        await emit(Event("citation", {"citation": citation().to_json()}))
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            await emit(Event("text", {"text": piece}))
        await emit(Event("done", {"answer": said(question, text, citation(), **changed).to_json()}))

    return answer


class MemoryStream:
    """An answer's stream without Redis, which keeps the promises of AnswerStream."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.attempt = 0
        self.cut: Exception | None = None
        self.told, self.reader = NOTHING, ""
        self.vectors: list[bytes] = []
        self._changed = asyncio.Condition()

    async def admit(self, attempt: int) -> None:
        self.attempt = attempt

    async def require(self, attempt: int) -> None:
        if attempt != self.attempt:
            raise Fenced

    async def append(self, attempt: int, *events: Event) -> None:
        if attempt != self.attempt:
            raise Fenced
        async with self._changed:
            self.events.extend(events)
            self._changed.notify_all()

    async def hand_over(self, released: Released) -> None:
        self.told = released

    async def released(self) -> Released:
        return self.told

    async def lend(self, vector: bytes) -> None:
        async with self._changed:
            self.vectors.append(vector)
            self._changed.notify_all()

    async def lent(self, seconds: float) -> bytes:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: self.vectors), seconds)
        return self.vectors.pop(0)

    async def follow(self, reader: str) -> None:
        self.reader = reader

    async def followed(self, reader: str) -> bool:
        return self.reader not in ("", reader)

    async def rest(self, after: str) -> list[tuple[str, Event]]:
        return [(str(place + 1), event) for place, event in enumerate(self.events) if place >= int(after)]

    async def read(self, silence: float, after: str = "0") -> AsyncIterator[tuple[str, Event]]:
        position = int(after)
        while True:
            async with asyncio.timeout(silence), self._changed:
                while len(self.events) <= position and not self.cut:
                    await self._changed.wait()
            if len(self.events) <= position and self.cut:
                raise self.cut
            position += 1
            yield str(position), self.events[position - 1]

    async def lose(self, error: Exception) -> None:
        """The connection breaks, after all that was written."""
        async with self._changed:
            self.cut = error
            self._changed.notify_all()


Worker = Callable[[MemoryStream, str, int], Awaitable[None]]


class MemoryBroker:
    """A broker in memory: `worker`, if there is one, is started with each answer sent."""

    def __init__(self, worker: Worker | None = None, down: bool = False) -> None:
        self.worker, self.down = worker, down
        self.sent: list[tuple[str, int]] = []
        self.lending: list[bool] = []
        self.waiting: set[int] = set()
        self.jobs: list[str] = []
        self.advanced: list[tuple[str, str]] = []
        self.streams: dict[str, MemoryStream] = {}
        self._working: set[asyncio.Task[None]] = set()

    def stream(self, answer_id: str) -> MemoryStream:
        return self.streams.setdefault(answer_id, MemoryStream())

    async def send_answer(self, question: Question, attempt: int, lending: bool = False) -> None:
        self._check()
        answer_id = question.answer_id
        self.sent.append((answer_id, attempt))
        self.lending.append(lending)
        self.stream(answer_id).attempt = attempt
        if self.worker is not None:
            task = asyncio.ensure_future(self.worker(self.stream(answer_id), answer_id, attempt))
            self._working.add(task)  # the loop itself keeps no tasks

    async def waits(self, question: Question, attempt: int) -> bool:
        """While the attempt is one of `waiting`."""
        self._check()
        return attempt in self.waiting

    async def send_job(self, job_id: str) -> None:
        self._check()
        self.jobs.append(job_id)

    async def send_advance(self, tenant: str, collection: str) -> None:
        self._check()
        self.advanced.append((tenant, collection))

    async def alive(self) -> bool:
        return not self.down

    async def worker_alive(self) -> bool:
        return self.worker is not None

    def _check(self) -> None:
        if self.down:
            raise RedisConnectionError("nobody is there")


def ask(catalog: Database, text: str = "When did the harbour open?", at: Moment | None = None) -> Question:
    """A question whose row is in the catalog."""
    question = Question("", "local", COLLECTION, text, at or Moment(2, 2), GENERATION)
    with catalog.write() as tx:
        answer_id = answers.create(tx, "local", COLLECTION, question.to_json())
    return Question.from_json({**question.to_json(), "answer_id": answer_id})


@asynccontextmanager
async def gateway(directory: Path, answer: Answering, broker: Any = None, **settings: Any) -> AsyncIterator[FastAPI]:
    """The application, started; its context is `app.state.context`."""

    @asynccontextmanager
    async def opened(chosen: GatewaySettings, metrics: Metrics) -> AsyncIterator[Context]:
        catalog = catalog_in(directory)
        yield Context(chosen, catalog, nodes_over(catalog), broker or MemoryBroker(), answer, metrics)
        catalog.close()

    app = create_app(GatewaySettings(home=directory, **settings), opened)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@contextmanager
def serving(
    directory: Path, answer: Answering, prepare: Callable[[Context], None] = lambda _: None, **settings: Any
) -> Iterator[tuple[str, FastAPI]]:
    """The application on a port and in a thread of its own: its URL, and itself. `prepare` fills its catalog."""
    port, servers = free_port(), []
    apps: list[FastAPI] = []

    async def serve() -> None:
        async with gateway(directory, answer, port=port, **settings) as app:
            prepare(app.state.context)
            apps.append(app)
            servers.append(uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off", ws="none")))
            await servers[0].serve()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        eventually(lambda: servers and servers[0].started, 30)
        yield f"http://127.0.0.1:{port}", apps[0]
    finally:
        servers[0].should_exit = True
        thread.join()
