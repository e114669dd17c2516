"""FAISS: the dense stage over inverted lists, a graph or exhaustively, on the CPU or a GPU; BM25 by Qdrant Edge."""

from services.retriever.backends.faiss.engine import engine

__all__ = ["engine"]
