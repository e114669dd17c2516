"""Where the generations of FAISS live."""

from __future__ import annotations

from services.common.nodes.funnel import Funnel
from services.retriever.backends.faiss.coarse import FaissKind, check_kind
from services.retriever.backends.faiss.probe import check_selectors
from services.retriever.backends.rows.engine import RowsEngine
from services.retriever.settings import RetrieverSettings


def engine(settings: RetrieverSettings) -> RowsEngine:
    """Raises InvalidRequest for a kind that is none. Opening a generation raises Unavailable where the device's index
    ignores selectors."""
    kind = FaissKind(settings.retriever_faiss_index, settings.retriever_faiss_device)
    check_kind(kind.option)

    def check(funnel: Funnel) -> None:
        check_selectors(kind, funnel)

    exact, build = settings.retriever_exact_below, settings.retriever_build_above
    return RowsEngine(settings.home / "index", kind, exact, build, check)
