"""Where answers wait: a few sub-queues that workers take from in turn, each tenant's questions in one (ADR-0015)."""

from __future__ import annotations

from zlib import crc32

from services.orchestrator.graph.names import ANSWER_QUEUE


def answer_queues(count: int) -> tuple[str, ...]:
    """All sub-queues, in order."""
    return tuple(f"{ANSWER_QUEUE}.{number}" for number in range(count))


def answer_queue(tenant: str, count: int) -> str:
    """The one that the tenant's questions wait in: the same in every process and on every machine."""
    return answer_queues(count)[crc32(tenant.encode()) % count]
