"""Where the generations of Qdrant Edge live.

`EdgeEngine(directory: Path, exact_below: int = 2_000, build_above: int = 5_000, *, dense: bool = True)`: with
`dense=False` its generations hold sparse vectors only, for BM25: upserts ignore the vectors, searches the query's, and
any dimensions will do.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from services.retriever.backends.base import Definition
from services.retriever.backends.durable import put_in_place
from services.retriever.backends.edge.index import EdgeIndex, Options
from services.retriever.backends.edge.state import State
from services.retriever.settings import RetrieverSettings


def engine(settings: RetrieverSettings) -> EdgeEngine:
    exact, build = settings.retriever_exact_below, settings.retriever_build_above
    return EdgeEngine(settings.home / "index", exact, build)


class EdgeEngine:
    """Generations as directories under `directory`."""

    def __init__(
        self, directory: Path, exact_below: int = 2_000, build_above: int = 5_000, *, dense: bool = True
    ) -> None:
        self._directory = directory
        self._options = Options(exact_below, build_above, dense)

    def open(self, generation: str) -> EdgeIndex | None:
        inside = self._directory / generation
        try:
            state = State.read(inside / "state.json")
        except FileNotFoundError:
            return None
        return EdgeIndex(inside, state, self._options)

    def create(self, generation: str, definition: Definition) -> EdgeIndex:
        inside = self._directory / generation
        inside.mkdir(parents=True, exist_ok=True)
        state = State.define(inside / "state.json", definition)
        return EdgeIndex(inside, state, self._options)

    def drop(self, generation: str) -> None:
        shutil.rmtree(self._directory / generation, ignore_errors=True)

    def replace(self, generation: str, by: str) -> EdgeIndex:
        put_in_place(self._directory, generation, by)
        opened = self.open(generation)
        assert opened is not None
        return opened
