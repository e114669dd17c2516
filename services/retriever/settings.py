from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from services.common.settings import Settings


class RetrieverSettings(Settings):
    """The retriever's settings."""

    retriever_backend: str = Field(
        "edge", description="Index engine: edge (Qdrant Edge), faiss, qdrant (a server), or memory (tests)."
    )
    retriever_exact_below: int = Field(
        2_000,
        ge=0,
        description="Up to how many points that pass a search compares full vectors with all of them; edge and faiss: "
        "300 at most.",
    )
    retriever_build_above: int = Field(
        5_000,
        ge=0,
        description="Changes since the last build from which on one begins; edge waits for a tenth of the index more.",
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
    retriever_qdrant_url: str = Field(
        "http://localhost:6333",
        description="URL of the Qdrant server, 1.19 or later. For tests: `:memory:`, or a directory of the "
        "client's own engine.",
    )
    retriever_qdrant_api_key: SecretStr = Field(SecretStr(""), description="API key of the Qdrant server.")
    retriever_qdrant_timeout_seconds: int = Field(30, ge=1, description="Longest wait for the Qdrant server's answer.")
    retriever_qdrant_prefix: str = Field(
        "almanac",
        pattern="^[A-Za-z0-9_-]+$",
        description="What the names of all collections in the Qdrant server begin with.",
    )
    retriever_qdrant_shards: int = Field(
        1, ge=1, description="Shards of a generation in Qdrant; BM25's term statistics are those of each shard."
    )
    retriever_qdrant_replicas: int = Field(1, ge=1, description="Copies of each shard in Qdrant.")
    retriever_qdrant_write_consistency: int = Field(
        0,
        ge=0,
        description="Replicas that must acknowledge a write; 0 for all. With fewer, searches may see what ended.",
    )
    retriever_qdrant_ordering: Literal["weak", "medium", "strong"] = Field(
        "medium", description="How strictly Qdrant orders writes to points: weak, medium or strong."
    )
