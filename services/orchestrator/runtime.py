"""The worker's one long-lived event loop, with its gRPC channels; Celery's threads only wait on futures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from celery import Task
from opentelemetry.trace import SpanKind
from redis.asyncio import Redis

from pipelines.advance import Readers
from pipelines.follow import Follower
from pipelines.ingest import Pipeline
from pipelines.parsers.base import MIB, Limits
from pipelines.parsers.pool import ParserPool
from pipelines.text import token_counter
from services.catalog.engine import Database
from services.catalog.records import Generation
from services.catalog.state import ensure_generation
from services.catalog.vectors import VectorFiles
from services.common.models import ModelCache, ModelKind, find, load_manifest
from services.common.nodes.funnel import DEFAULT
from services.common.telemetry import TRACEPARENT, tracing
from services.orchestrator.graph.nodes import Nodes, connect
from services.orchestrator.settings import WorkerSettings


class Runtime:
    """Everything a task needs, opened once. The loop runs in a thread of its own."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.catalog = Database(settings.catalog_url)
        self.loop = asyncio.new_event_loop()
        self._kept: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self.loop.run_forever, name="graph", daemon=True)
        self._thread.start()
        self.redis: Redis = Redis.from_url(settings.broker_url, socket_connect_timeout=1)
        self.nodes: Nodes = self.wait(self._connect())
        self.readers = Readers(
            self.catalog, VectorFiles(settings.vectors_dir), self.nodes.retriever, self.nodes.features
        )
        self.pipeline = self._pipeline()
        self.follower = Follower(
            self.catalog, self.pipeline.files, self.nodes.encoder, self.readers, self.nodes.retriever
        )
        self.beside = replace(self.follower, share=settings.reindex_share)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run on the loop; blocks the calling thread only."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def work(self, work: Coroutine[Any, Any, Any], task: Task) -> Any:
        """Like `wait`, under the trace that the task came with."""
        handed_over = task.request.get(TRACEPARENT)

        async def traced() -> Any:
            with tracing(handed_over, task.name, SpanKind.CONSUMER):
                return await work

        return self.wait(traced())

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it run on the loop, until `close` cancels it."""

        async def begin() -> None:
            self._kept.add(asyncio.create_task(work))

        self.wait(begin())

    def close(self) -> None:
        """What is kept running gives up what it holds, leases included."""
        self.wait(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)
        self.pipeline.parsers.close()
        self.catalog.close()

    async def _end(self) -> None:
        for task in self._kept:
            task.cancel()
        await asyncio.gather(*self._kept, return_exceptions=True)
        await self.nodes.close()
        await self.redis.aclose()

    async def _connect(self) -> Nodes:
        return connect(self.settings, self.catalog)

    def _pipeline(self) -> Pipeline:
        settings = self.settings
        model = find(load_manifest(settings.models_manifest), settings.encoder_model, ModelKind.ENCODER)
        with self.catalog.write() as tx:
            ensure_generation(tx, Generation("g1", model.name, model.dimensions, DEFAULT))
        return Pipeline(
            catalog=self.catalog,
            files=VectorFiles(settings.vectors_dir),
            encoder=self.nodes.encoder,
            readers=self.readers,
            count_tokens=token_counter(ModelCache(settings.models_dir).path(model)),
            max_tokens=min(settings.passage_tokens, model.max_tokens),
            parsers=ParserPool(_limits(settings), settings.parser_processes),
        )


def _limits(settings: WorkerSettings) -> Limits:
    return Limits(
        seconds=settings.parser_seconds,
        memory_bytes=settings.parser_memory_mib * MIB,
        text_bytes=settings.parser_text_mib * MIB,
        unpacked_bytes=settings.parser_unpacked_mib * MIB,
    )
