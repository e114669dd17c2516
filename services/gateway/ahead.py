"""Questions are encoded while they are still being let in: by the time a worker has one, its vector is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from services.catalog.records import Generation
from services.common.errors import AlmanacError
from services.common.rpc.deadlines import deadline
from services.orchestrator.graph.lending import SECONDS
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.patience import NodeFailed
from services.orchestrator.graph.search import query_vector

_AFTER_REFUSAL_SECONDS = 1.0
"""For so long after a question was refused none is encoded: the next ones are likely to be refused too."""


class Ahead:
    """Has texts encoded for the generation that the last question was asked of; where another is live by now, in vain.

    wanted: false where most questions need no vector.
    """

    def __init__(self, nodes: Nodes, wanted: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._nodes, self._wanted, self._clock = nodes, wanted, clock
        self._generation: Generation | None = None
        self._encoding: set[asyncio.Task[None]] = set()
        self._not_before = 0.0

    @contextmanager
    def encoding(self, text: str) -> Iterator[None]:
        """Begin to encode the text, which becomes a question inside; one that is refused is not encoded to the end."""
        if not self._wanted or self._generation is None or self._clock() < self._not_before:
            yield
            return
        task = asyncio.create_task(self._encode(self._generation, text))
        self._encoding.add(task)
        task.add_done_callback(self._encoding.discard)
        try:
            yield
        except BaseException:
            task.cancel()
            self._not_before = self._clock() + _AFTER_REFUSAL_SECONDS
            raise

    def asked_of(self, generation: Generation) -> None:
        """A question was asked of it: the next one is likely to be."""
        self._generation = generation

    async def close(self) -> None:
        for task in self._encoding:
            task.cancel()
        await asyncio.gather(*self._encoding, return_exceptions=True)

    async def _encode(self, generation: Generation, text: str) -> None:
        with suppress(NodeFailed, AlmanacError), deadline(SECONDS):
            await query_vector(self._nodes, generation, text)
