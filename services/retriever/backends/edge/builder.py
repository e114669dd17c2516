"""Builds a copied shard: `python -m services.retriever.backends.edge.builder DIRECTORY PARENT`.

A process of its own, for the engine holds the interpreter lock all the while.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import qdrant_edge as qe

from services.retriever.backends.process import behind_everybody, gone_with


def main(directory: Path, parent: int) -> None:
    gone_with(parent)
    behind_everybody()
    shard = qe.EdgeShard.load(str(directory))
    shard.optimize()
    shard.flush()
    shard.close()
    _sync(directory)


def _sync(directory: Path) -> None:
    """The copy was written without, and is soon the only one there is."""
    for path in (directory, *directory.rglob("*")):
        held = os.open(path, os.O_RDONLY)
        try:
            os.fsync(held)
        finally:
            os.close(held)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
