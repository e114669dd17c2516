"""Qdrant Edge: the Qdrant engine, embedded."""

from services.retriever.backends.edge.index import EdgeEngine, engine

__all__ = ["EdgeEngine", "engine"]
