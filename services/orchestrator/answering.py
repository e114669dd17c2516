"""Work on one answer: its events to the stream, its record to the catalog, its attempt fenced by both."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import structlog
from redis.exceptions import RedisError

from services.catalog import answers, events
from services.catalog.engine import Database
from services.common.errors import AlmanacError, Internal
from services.common.moment import now
from services.orchestrator.graph.answer import Event, Question, ending
from services.orchestrator.graph.lending import Borrowing
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.outbox import Outbox
from services.orchestrator.graph.released import NOTHING, Released
from services.orchestrator.graph.run import answer
from services.orchestrator.graph.stream import HEARTBEAT_SECONDS, AnswerStream, Fenced

log = structlog.get_logger()


async def work(nodes: Nodes, stream: AnswerStream, question: Question, attempt: int, lending: bool = False) -> None:
    """Answer, unless it is for a later attempt; stops without a word once one has taken over.

    lending: the gateway lends the question's vector.
    """
    if lending:
        nodes = replace(nodes, encoder=Borrowing(nodes.encoder, stream, question))
    try:
        async with asyncio.TaskGroup() as group:
            outbox = Outbox(stream, attempt)
            group.create_task(outbox.run())
            beating = group.create_task(_beat(outbox))
            # Beside the answer: that nobody waits for it any more is rare.
            group.create_task(stream.require(attempt))
            released = await stream.released() if attempt > 1 else NOTHING
            state, found = await _outcome(nodes, outbox, question, released)
            if await asyncio.to_thread(_record, nodes.catalog, question.answer_id, attempt, state, found):
                await outbox.put(ending(state, found))
            beating.cancel()
            outbox.close()
    except* Fenced:
        log.info("answer_taken_over", answer_id=question.answer_id, attempt=attempt)
    except* (RedisError, OSError) as failures:
        # The gateway sees the same and answers by itself.
        log.warning("stream_lost", answer_id=question.answer_id, reason=str(failures.exceptions[0]))


async def _beat(outbox: Outbox) -> None:
    while True:
        await outbox.put(Event("alive", {}))
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _outcome(nodes: Nodes, outbox: Outbox, question: Question, released: Released) -> tuple[str, dict[str, Any]]:
    """Its state, and the answer or the problem."""
    try:
        return answers.DONE, (await answer(nodes, question, outbox.put, released)).to_json()
    except AlmanacError as error:
        return answers.FAILED, error.problem()
    except Exception:
        log.exception("answer_failed", answer_id=question.answer_id)
        return answers.FAILED, Internal("the answer failed unexpectedly; the worker's log says why").problem()


def _record(catalog: Database, answer_id: str, attempt: int, state: str, found: dict[str, Any]) -> bool:
    with catalog.write() as tx:
        return events.record_answer(tx, answer_id, attempt, state, found, now())
