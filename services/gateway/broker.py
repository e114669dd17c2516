"""The broker, as the gateway uses it: tasks out, event streams in. Whatever fails, fails within about a second."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry.trace import SpanKind
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from services.common.telemetry import TRACEPARENT, spanning, traceparent
from services.gateway.tasks import message
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.names import (
    ADVANCE_TASK,
    ANSWER_TASK,
    ANSWERING_KEY,
    INGEST_QUEUE,
    INGEST_TASK,
    LENDING,
    WORKER_ALIVE_KEY,
)
from services.orchestrator.graph.queues import answer_queue
from services.orchestrator.graph.stream import AnswerStream

FAILURES = (RedisError, OSError)
"""What a broker that is not there raises. TimeoutError is an OSError: where silence has a meaning, catch it first."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_SECONDS = 1.0
_SEND_SECONDS = 1.5
"""Bounds the tries of one task together; one that goes out late all the same does no harm."""

_WAITS = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
for _, task in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    if string.find(task, ARGV[1], 1, true) then return 1 end
end
return 0
"""


class Broker:
    """Redis, for the streams and for the tasks. Opening it connects to nothing.

    queues: how many sub-queues answers have.
    """

    def __init__(self, url: str, queues: int) -> None:
        self._queues = queues
        # A connection that died while idle is replaced once; a broker that is gone is not waited for.
        once_more = Retry(NoBackoff(), 1, (RedisConnectionError,))
        self._redis: Redis = Redis.from_url(
            url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS, retry=once_more
        )
        self._waits = self._redis.register_script(_WAITS)

    def stream(self, answer_id: str) -> AnswerStream:
        return AnswerStream(self._redis, answer_id)

    async def send_answer(self, question: Question, attempt: int, lending: bool = False) -> None:
        """Admit the attempt and have it begin. Raises one of FAILURES.

        The question goes along, so that the worker begins without the catalog.
        lending: its vector follows in the stream.
        """
        queue, task_id = self._place(question, attempt)
        told = {LENDING: 1} if lending else {}
        task = _message(ANSWER_TASK, [question.to_json(), attempt], queue, task_id, told)
        async with asyncio.timeout(_SEND_SECONDS), self._redis.pipeline(transaction=False) as both:
            await AnswerStream(both, question.answer_id).admit(attempt)
            both.lpush(queue, task)
            await both.execute()

    async def waits(self, question: Question, attempt: int) -> bool:
        """Whether the task is still in its queue, and there is a worker that takes answers. Raises one of FAILURES."""
        queue, task_id = self._place(question, attempt)
        return bool(await self._waits([queue, ANSWERING_KEY], [task_id]))

    async def send_job(self, job_id: str) -> None:
        """Raises one of FAILURES."""
        await self._send(INGEST_TASK, [job_id], INGEST_QUEUE)

    async def send_advance(self, tenant: str, collection: str) -> None:
        """Have the readers brought up to date. Raises one of FAILURES."""
        await self._send(ADVANCE_TASK, [tenant, collection], INGEST_QUEUE)

    async def alive(self) -> bool:
        """Whether the broker answers."""
        try:
            return bool(await self._redis.ping())  # type: ignore[misc]
        except FAILURES:
            return False

    async def worker_alive(self) -> bool:
        """Whether a worker has lately said that it is there."""
        try:
            return bool(await self._redis.exists(WORKER_ALIVE_KEY))
        except FAILURES:
            return False

    async def close(self) -> None:
        await self._redis.aclose()

    def _place(self, question: Question, attempt: int) -> tuple[str, str]:
        """The queue of a task that answers, and its id."""
        return answer_queue(question.tenant, self._queues), f"{question.answer_id}:{attempt}"

    async def _send(self, task: str, args: list[Any], queue: str) -> None:
        async with asyncio.timeout(_SEND_SECONDS):
            await self._redis.lpush(queue, _message(task, args, queue))  # type: ignore[misc]


def _message(
    task: str, args: list[Any], queue: str, task_id: str | None = None, told: Mapping[str, Any] = _NOTHING
) -> bytes:
    with spanning(task, SpanKind.PRODUCER):
        return message(task, args, queue, {TRACEPARENT: traceparent(), **told}, task_id)
