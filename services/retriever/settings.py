from __future__ import annotations

from typing import Literal

from pydantic import Field

from services.common.settings import Settings


class RetrieverSettings(Settings):
    """The retriever's settings."""

    retriever_backend: str = Field("edge", description="Index engine: edge (Qdrant Edge), faiss, or memory (tests).")
    retriever_exact_below: int = Field(
        2_000, ge=0, description="Up to how many points that pass a search compares full vectors with all of them."
    )
    retriever_build_above: int = Field(
        5_000, ge=0, description="Changes since the last build from which on (if 20 % of the index too) one begins."
    )
    retriever_wait_seconds: float = Field(
        5.0, ge=0, description="Longest wait for the watermark to reach the moment asked for."
    )
    retriever_faiss_index: str = Field(
        "ivf", description="What FAISS searches: ivf (inverted lists), hnsw (a graph) or flat (every code)."
    )
    retriever_faiss_device: Literal["cpu", "gpu"] = Field(
        "cpu", description="Where FAISS searches: cpu, or gpu (faiss-gpu-cuvs)."
    )
