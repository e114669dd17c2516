"""Qdrant Edge, the Qdrant engine embedded: its graph over codes chooses among the rows."""

from services.retriever.backends.edge.engine import engine

__all__ = ["engine"]
