"""Qdrant Edge: the Qdrant engine, embedded."""

from services.retriever.backends.edge.engine import EdgeEngine, engine

__all__ = ["EdgeEngine", "engine"]
