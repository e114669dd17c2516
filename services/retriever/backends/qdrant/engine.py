"""Generations in a Qdrant server, known to every process by the state collection."""

from __future__ import annotations

from dataclasses import replace

from services.retriever.backends.base import Definition, Index
from services.retriever.backends.qdrant.index import QdrantIndex
from services.retriever.backends.qdrant.server import Server
from services.retriever.backends.qdrant.state import Known, States
from services.retriever.settings import RetrieverSettings


def engine(settings: RetrieverSettings) -> QdrantEngine:
    return QdrantEngine(Server(settings), settings.retriever_exact_below)


class QdrantEngine:
    """Generations by name; `server` is shared by all of them."""

    def __init__(self, server: Server, exact_below: int) -> None:
        self._server = server
        self._states = States(server)
        self._exact_below = exact_below

    def open(self, generation: str) -> Index | None:
        known = self._states.find(generation)
        return self._index(known) if known else None

    def create(self, generation: str, definition: Definition) -> Index:
        known = self._states.find(generation)
        if known is None:
            known = Known.fresh(self._server.prefix, generation, definition)
            self._states.save(known)
        return self._index(known)

    def drop(self, generation: str) -> None:
        known = self._states.find(generation)
        if known is not None:
            shared = self._states.others(known)
            self._states.forget(generation)
            if not shared:
                self._remove(known)

    def replace(self, generation: str, by: str) -> Index:
        """One write gives the name to the other's points; for a moment, or for good if killed, they have both names."""
        held, fresh = self._states.find(generation), self._states.find(by)
        assert fresh is not None
        known = replace(fresh, generation=generation)
        self._states.save(known)
        self._states.forget(by)
        if held is not None and held.lineage != known.lineage:
            self._remove(held)
        return self._index(known)

    def _index(self, known: Known) -> Index:
        return QdrantIndex(self._server, self._states, known, self._exact_below)

    def _remove(self, known: Known) -> None:
        self._states.forget_watermarks(known.lineage)
        with self._server.reached():
            for collection in filter(None, (known.collection, known.aside)):
                self._server.client.delete_collection(collection)
