"""Qdrant Edge: the Qdrant engine, embedded."""

from services.retriever.backends.edge.index import engine

__all__ = ["engine"]
