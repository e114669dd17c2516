"""A question is encoded while it is on its way: the gateway has that done, and lends the vector to the worker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np
from redis.exceptions import RedisError

from services.common.errors import AlmanacError
from services.common.nodes.encoder import Encoder, ModelInfo, TextKind, Vectors
from services.common.rpc.deadlines import remaining
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.patience import NodeFailed
from services.orchestrator.graph.search import query_vector

SECONDS = 3.0
"""How long a worker waits for a vector that it was promised before it has one made."""

Asked = tuple[str, TextKind, tuple[str, ...]]


class Lending(Protocol):
    """What is needed of an answer's stream."""

    async def lend(self, vector: bytes) -> None: ...

    async def lent(self, seconds: float) -> bytes: ...


async def lend(nodes: Nodes, stream: Lending, question: Question) -> None:
    """Lend the question's vector, or say that there is none. Raises RedisError, OSError."""
    try:
        vector = await query_vector(nodes, question.generation, question.text)
    except (NodeFailed, AlmanacError):
        await stream.lend(b"")
    else:
        await stream.lend(vector.astype("<f4").tobytes())


class Borrowing:
    """An encoder for one question, whose vector the gateway lends; what is not lent, and all else, it has made."""

    def __init__(self, encoder: Encoder, stream: Lending, question: Question) -> None:
        self._encoder, self._stream = encoder, stream
        self._dimensions = question.generation.dimensions
        self._awaited: Asked | None = (question.generation.encoder, TextKind.QUERY, (question.text,))

    async def encode(self, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
        if self._awaited == (model, kind, tuple(texts)):
            self._awaited = None
            with suppress(RedisError, OSError):
                lent = await self._stream.lent(min(SECONDS, remaining(SECONDS) / 2))
                if len(lent) == 4 * self._dimensions:
                    return np.frombuffer(lent, "<f4").reshape(1, -1)
        return await self._encoder.encode(model, kind, texts)

    async def models(self) -> list[ModelInfo]:
        return await self._encoder.models()
