"""The Celery application: which tasks there are, and on which queues."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.signals import worker_ready, worker_shutting_down

from pipelines.aggregate import Aggregator
from services.catalog import answers
from services.catalog.distributions import roll_up
from services.catalog.orphans import sweep_orphans
from services.common.errors import Unavailable
from services.common.moment import now
from services.common.probe import BEAT
from services.orchestrator import advancing, answering, uploads
from services.orchestrator.counting import Counting
from services.orchestrator.following import Following
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.names import (
    ADVANCE_TASK,
    ANSWER_QUEUE,
    ANSWER_TASK,
    INGEST_QUEUE,
    INGEST_TASK,
    LENDING,
)
from services.orchestrator.graph.queues import answer_queues
from services.orchestrator.graph.stream import KEPT_SECONDS, AnswerStream
from services.orchestrator.ingesting import Ingestion, Policy
from services.orchestrator.maintaining import workers
from services.orchestrator.runtime import Runtime
from services.orchestrator.settings import WorkerSettings
from services.orchestrator.sweeping import Sweeper
from services.orchestrator.taking import take_what_can_run

_BEAT_SECONDS = 5.0
_GIVEN_UP = Unavailable("whoever worked on the answer went away without a word; ask again")


def create_app(settings: WorkerSettings) -> Celery:
    """The application, without its tasks: enough to send them."""
    app = Celery("almanac", broker=settings.celery_broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # The catalog's leases and the gateway's attempts bring lost work back; redelivery would only double it, and to
        # write down what it needs takes each task two round trips. Priorities, which no task has, would be more lists.
        task_acks_late=False,
        broker_transport_options={
            "queue_order_strategy": "round_robin",
            "ack_emulation": False,
            "priority_steps": [0],
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_hijack_root_logger=False,
        task_routes={
            INGEST_TASK: {"queue": INGEST_QUEUE},
            ADVANCE_TASK: {"queue": INGEST_QUEUE},
        },
    )
    take_what_can_run(app)
    return app


def add_tasks(app: Celery, runtime: Runtime) -> None:
    """The tasks, each a thread that waits for the loop. Told to stop, the worker gives its jobs back."""
    ingestion = Ingestion(runtime.pipeline, Policy.of(runtime.settings), workers(runtime), partial(_enqueue, app))

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def give_back(**_: object) -> None:
        runtime.loop.call_soon_threadsafe(ingestion.stop)

    @app.task(name=ANSWER_TASK, bind=True)  # type: ignore[untyped-decorator]
    def answer(task: Task, asked: Mapping[str, Any], attempt: int) -> None:
        question = Question.from_json(asked)
        stream = AnswerStream(runtime.redis, question.answer_id)
        lending = bool(task.request.get(LENDING))
        runtime.work(answering.work(runtime.nodes, stream, question, attempt, lending), task)

    @app.task(name=INGEST_TASK, bind=True)  # type: ignore[untyped-decorator]
    def ingest(task: Task, job_id: str) -> None:
        runtime.work(ingestion.take_up(job_id), task)

    @app.task(name=ADVANCE_TASK, bind=True)  # type: ignore[untyped-decorator]
    def advance(task: Task, tenant: str, collection: str) -> None:
        work = advancing.work(runtime.catalog, runtime.follower, tenant, collection)
        runtime.work(work, task)


def _enqueue(app: Celery, job_id: str) -> None:
    app.send_task(INGEST_TASK, [job_id], queue=INGEST_QUEUE)


def _tidy(runtime: Runtime) -> None:
    uploads.tidy(runtime.catalog, runtime.settings.uploads_dir, runtime.settings.upload_days)
    sweep_orphans(runtime.catalog, runtime.pipeline.files)
    with runtime.catalog.write() as tx:
        roll_up(tx)
        answers.give_up(tx, now() - KEPT_SECONDS * 1_000_000, _GIVEN_UP.problem())


async def _beat(file: Path) -> None:
    """Say, for the health check, that the loop is alive; from when the worker takes tasks."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        await asyncio.to_thread(file.touch)
        await asyncio.sleep(_BEAT_SECONDS)


def start_sweeper(app: Celery, runtime: Runtime) -> None:
    """Sweep, follow what is beside the live generation, and count events, on the loop for as long as it runs."""
    settings = runtime.settings
    sweeper = Sweeper(
        runtime.catalog,
        runtime.follower,
        runtime.redis,
        (*answer_queues(settings.answer_queues), INGEST_QUEUE),
        partial(_enqueue, app),
        partial(_tidy, runtime),
        settings.sweep_seconds,
        ANSWER_QUEUE in settings.worker_queues,
    )

    @worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def beat(**_: object) -> None:
        runtime.keep(_beat(settings.run_dir / BEAT))

    runtime.keep(sweeper.run())
    following = Following(runtime.beside, runtime.nodes.retriever, settings.sweep_seconds)
    runtime.keep(following.run())
    counting = Counting(Aggregator(runtime.follower, runtime.nodes.features), settings.sweep_seconds)
    runtime.keep(counting.run())
