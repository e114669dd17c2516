"""Haystack's hybrid retriever in memory: BM25 and embeddings, joined by distribution-based rank fusion.

Runs in a virtual environment of its own (`benchmarks/haystack.txt`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from haystack import Document
from haystack.components.joiners import DocumentJoiner
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from benchmarks.threaded import Search, serve, written

_DEPTH, _BEST = 100, 10


def main(directory: Path) -> None:
    texts, vectors = written(directory)
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(
        [
            Document(id=str(place), content=text, embedding=vector)
            for place, (text, vector) in enumerate(zip(texts, vectors.tolist(), strict=True))
        ]
    )
    serve(directory, _search(store))


def _search(store: InMemoryDocumentStore) -> Search:
    lexical = InMemoryBM25Retriever(store, top_k=_DEPTH)
    dense = InMemoryEmbeddingRetriever(store, top_k=_DEPTH)
    joiner = DocumentJoiner(join_mode="distribution_based_rank_fusion", top_k=_BEST)

    def search(text: str, vector: list[float]) -> object:
        found = [lexical.run(query=text)["documents"], dense.run(query_embedding=vector)["documents"]]
        return joiner.run(documents=found)["documents"]

    return search


if __name__ == "__main__":
    main(Path(sys.argv[1]))
