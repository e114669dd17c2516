"""Generations as directories."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from services.common.nodes.funnel import Funnel
from services.retriever.backends.base import Definition
from services.retriever.backends.durable import put_in_place
from services.retriever.backends.rows.coarse import Kind
from services.retriever.backends.rows.index import RowsIndex
from services.retriever.backends.rows.state import State


def _anything(funnel: Funnel) -> None:
    pass


class RowsEngine:
    """Generations as directories under `directory`.

    exact_below, build_above: as in RetrieverSettings. check: raises for a funnel that the kind cannot serve.
    """

    def __init__(
        self,
        directory: Path,
        kind: Kind,
        exact_below: int = 2_000,
        build_above: int = 5_000,
        check: Callable[[Funnel], None] = _anything,
    ) -> None:
        self._directory = directory
        self._kind = kind
        self._exact_below = exact_below
        self._build_above = build_above
        self._check = check

    def open(self, generation: str) -> RowsIndex | None:
        inside = self._directory / generation
        try:
            return self._index(inside, State.read(inside, self._kind.name))
        except FileNotFoundError:
            return None

    def create(self, generation: str, definition: Definition) -> RowsIndex:
        inside = self._directory / generation
        inside.mkdir(parents=True, exist_ok=True)
        return self._index(inside, State.define(inside, self._kind.name, definition))

    def drop(self, generation: str) -> None:
        shutil.rmtree(self._directory / generation, ignore_errors=True)

    def replace(self, generation: str, by: str) -> RowsIndex:
        put_in_place(self._directory, generation, by)
        opened = self.open(generation)
        assert opened is not None
        return opened

    def _index(self, inside: Path, state: State) -> RowsIndex:
        self._check(state.funnel)
        return RowsIndex(inside, state, self._kind, self._exact_below, self._build_above)
