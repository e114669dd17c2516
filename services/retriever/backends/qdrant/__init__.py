"""Qdrant as a server or a cluster: one of its collections a generation, and one for what generations are."""

from services.retriever.backends.qdrant.engine import QdrantEngine, engine

__all__ = ["QdrantEngine", "engine"]
