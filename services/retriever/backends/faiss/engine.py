"""Generations as directories."""

from __future__ import annotations

import shutil
from pathlib import Path

from services.retriever.backends.base import Definition, Index
from services.retriever.backends.durable import put_in_place
from services.retriever.backends.faiss.coarse import check_kind
from services.retriever.backends.faiss.index import FaissIndex
from services.retriever.backends.faiss.options import Options
from services.retriever.backends.faiss.probe import check_selectors
from services.retriever.backends.faiss.state import State
from services.retriever.settings import RetrieverSettings


def engine(settings: RetrieverSettings) -> FaissEngine:
    """Raises InvalidRequest for a kind that is none, Unavailable where the device's index ignores selectors."""
    kind, device = settings.retriever_faiss_index, settings.retriever_faiss_device
    options = Options(kind, device, settings.retriever_exact_below, settings.retriever_build_above)
    check_kind(kind)
    return FaissEngine(settings.home / "index", options)


class FaissEngine:
    """Generations as directories under `directory`."""

    def __init__(self, directory: Path, options: Options) -> None:
        self._directory = directory
        self._options = options

    def open(self, generation: str) -> Index | None:
        inside = self._directory / generation
        try:
            return self._index(inside, State.read(inside))
        except FileNotFoundError:
            return None

    def create(self, generation: str, definition: Definition) -> Index:
        inside = self._directory / generation
        inside.mkdir(parents=True, exist_ok=True)
        return self._index(inside, State.define(inside, definition))

    def drop(self, generation: str) -> None:
        shutil.rmtree(self._directory / generation, ignore_errors=True)

    def replace(self, generation: str, by: str) -> Index:
        put_in_place(self._directory, generation, by)
        opened = self.open(generation)
        assert opened is not None
        return opened

    def _index(self, inside: Path, state: State) -> Index:
        check_selectors(self._options, state.funnel)
        return FaissIndex(inside, state, self._options)
