"""Builds a copied shard: `python -m services.retriever.backends.edge.builder DIRECTORY PARENT`.

A process of its own, for the engine holds the interpreter lock all the while.
"""

from __future__ import annotations

import sys

import qdrant_edge as qe

from services.retriever.backends.process import behind_everybody, gone_with


def main(directory: str, parent: int) -> None:
    gone_with(parent)
    behind_everybody()
    shard = qe.EdgeShard.load(directory)
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
