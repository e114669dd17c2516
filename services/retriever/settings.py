from __future__ import annotations

from pydantic import Field

from services.common.settings import Settings


class RetrieverSettings(Settings):
    """The retriever's settings."""

    retriever_backend: str = Field("edge", description="Index engine: edge (Qdrant Edge) or memory (tests).")
    retriever_exact_below: int = Field(
        20_000, ge=0, description="Up to how many points a generation is searched exhaustively, not through its graph."
    )
    retriever_wait_seconds: float = Field(
        5.0, ge=0, description="Longest wait for the watermark to reach the moment asked for."
    )
