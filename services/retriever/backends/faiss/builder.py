"""The builder process: `python -m services.retriever.backends.faiss.builder TASK` (JSON, as build.py writes it).

It reads the first rows of a segment, writes their coarse index aside and renames it. Nice to others, and gone with its
parent.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from services.common.nodes.retriever import Vectors
from services.retriever.backends.base import Definition
from services.retriever.backends.durable import sync_directory
from services.retriever.backends.faiss.coarse import best_lists, extend, make
from services.retriever.backends.faiss.state import State
from services.retriever.backends.process import behind_everybody, gone_with


def main(task: dict[str, Any]) -> None:
    gone_with(task["parent"])
    behind_everybody()
    build(task)


def build(task: dict[str, Any]) -> None:
    """Write the index the task describes; killed at any instant it may be done again."""
    definition = State.read(Path(task["generation"])).definition()
    shape = (task["rows"], task["dimensions"])
    vectors = np.memmap(task["vectors"], dtype=np.float32, mode="r", shape=shape)
    index = _extended(task["previous"], definition, vectors) or make(task["kind"], definition, vectors)
    path = Path(task["path"])
    written = path.with_suffix(".new")
    faiss.write_index(index, str(written))
    with written.open("rb") as file:
        os.fsync(file.fileno())
    written.replace(path)
    sync_directory(path.parent)


def _extended(previous: str | None, definition: Definition, vectors: Vectors) -> Any:
    """The previous index with the rows that came since, None where so many rows want more lists."""
    if previous is None:
        return None
    index = faiss.read_index(previous)
    lists = getattr(index, "nlist", None)
    if lists is not None and lists < best_lists(len(vectors)):
        return None
    extend(index, definition, vectors)
    return index


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
