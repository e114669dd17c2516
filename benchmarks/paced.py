"""A worker in place of the real one: every answer of the queue is the same words at the same pace, however many run.

Run as `python -m benchmarks.paced SOCKET WORDS PER_SECOND`; SOCKET is the broker's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis

from services.common.settings import Settings
from services.orchestrator.graph.answer import Event
from services.orchestrator.graph.queues import answer_queues
from services.orchestrator.graph.stream import HEARTBEAT_SECONDS, AnswerStream, Fenced


async def main(socket: str, words: int, per_second: float) -> None:
    """Take up answers as they come, until it is killed."""
    working: set[asyncio.Task[None]] = set()
    queues = answer_queues(Settings().answer_queues)
    async with Redis(unix_socket_path=socket) as redis:
        while True:
            _, raw = await redis.blpop(queues, timeout=0)  # type: ignore[misc]
            [question, attempt], *_ = json.loads(base64.b64decode(json.loads(raw)["body"]))
            stream = AnswerStream(redis, question["answer_id"])
            task = asyncio.create_task(_answer(stream, attempt, words, per_second))
            working.add(task)
            task.add_done_callback(working.discard)


async def _answer(stream: AnswerStream, attempt: int, words: int, per_second: float) -> None:
    with suppress(Fenced):
        beating = asyncio.create_task(_beat(stream, attempt))
        try:
            await stream.append(attempt, Event("step", {"step": "encode", "ms": 1.0}))
            for number in range(words):
                await stream.append(attempt, Event("text", {"text": f"word{number} "}))
                await asyncio.sleep(1 / per_second)
            await stream.append(attempt, Event("done", {"answer": _said(words)}))
        finally:
            beating.cancel()


async def _beat(stream: AnswerStream, attempt: int) -> None:
    with suppress(Fenced):
        while True:
            await stream.append(attempt, Event("alive", {}))
            await asyncio.sleep(HEARTBEAT_SECONDS)


def _said(words: int) -> dict[str, Any]:
    """As much of an answer as the gateway reads."""
    return {"grounding": "generated", "degraded": [], "usage": {"prompt_tokens": 100, "completion_tokens": words}}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
