"""Where the generations of Qdrant Edge live."""

from __future__ import annotations

from services.retriever.backends.edge.graph import EdgeKind
from services.retriever.backends.rows.engine import RowsEngine
from services.retriever.settings import RetrieverSettings


def engine(settings: RetrieverSettings) -> RowsEngine:
    exact, build = settings.retriever_exact_below, settings.retriever_build_above
    return RowsEngine(settings.home / "index", EdgeKind(), exact, build)
