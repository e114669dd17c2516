"""Index engines, chosen by name and imported only then."""

from __future__ import annotations

from pathlib import Path

from services.common.errors import NotFound
from services.retriever.backends.base import Engine


def open_engine(name: str, directory: Path, exact_below: int) -> Engine:
    """The engine `name`, its generations under `directory`. Raises NotFound for a name that is none.

    exact_below: up to how many points a generation is searched exhaustively, for engines that can do either.
    """
    if name == "edge":
        from services.retriever.backends.edge import EdgeEngine

        return EdgeEngine(directory, exact_below)
    if name == "memory":
        from services.retriever.backends.memory import MemoryEngine

        return MemoryEngine()
    raise NotFound(f"no retriever backend is called {name!r}; choose edge or memory")
