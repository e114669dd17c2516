"""Questions are encoded while they are still being let in: by the time a worker has one, its vector is there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from services.catalog.records import Generation
from services.common.errors import AlmanacError
from services.common.rpc.deadlines import deadline
from services.orchestrator.graph.lending import SECONDS
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.patience import NodeFailed
from services.orchestrator.graph.search import query_vector


class Ahead:
    """Has texts encoded for the generation that the last question was asked of; where another is live by now, in vain.

    wanted: false where most questions need no vector.
    """

    def __init__(self, nodes: Nodes, wanted: bool) -> None:
        self._nodes, self._wanted = nodes, wanted
        self._generation: Generation | None = None
        self._encoding: set[asyncio.Task[None]] = set()

    @contextmanager
    def encoding(self, text: str) -> Iterator[None]:
        """Begin to encode the text, which becomes a question inside; one that is refused is not encoded to the end."""
        if not self._wanted or self._generation is None:
            yield
            return
        task = asyncio.create_task(self._encode(self._generation, text))
        self._encoding.add(task)
        task.add_done_callback(self._encoding.discard)
        try:
            yield
        except BaseException:
            task.cancel()
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
