"""The builder process: `python -m services.retriever.backends.faiss.builder TASK` (JSON, as build.py writes it).

It reads the first rows of a segment, writes their postings and their coarse index aside and renames them. Nice to
others, and gone with its parent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from services.common.nodes.retriever import Vectors
from services.retriever.backends.base import Definition
from services.retriever.backends.durable import sync_directory
from services.retriever.backends.faiss.build import COARSE, POSTINGS
from services.retriever.backends.faiss.coarse import best_lists, extend, make
from services.retriever.backends.faiss.postings import TERM, write_postings
from services.retriever.backends.faiss.segment import RECORD
from services.retriever.backends.faiss.state import State
from services.retriever.backends.process import behind_everybody, gone_with


def main(task: dict[str, Any]) -> None:
    gone_with(task["parent"])
    behind_everybody()
    build(task)


def build(task: dict[str, Any]) -> None:
    """Write the index the task describes; killed at any instant it may be done again."""
    segment = Path(task["segment"])
    definition = State.read(segment.parent).definition()
    shape = (task["rows"], task["dimensions"])
    vectors = np.memmap(segment / "vectors.bin", dtype=np.float32, mode="r", shape=shape)
    index = _extended(task["previous"], definition, vectors) or make(task["kind"], definition, vectors)
    path = segment / task["name"]
    _place(path.with_suffix(POSTINGS), lambda written: _write_postings(written, segment, task["rows"]))
    _place(path.with_suffix(COARSE), lambda written: faiss.write_index(index, str(written)))


def _place(path: Path, write: Callable[[Path], None]) -> None:
    written = path.with_suffix(".new")
    write(written)
    with written.open("rb") as file:
        os.fsync(file.fileno())
    written.replace(path)
    sync_directory(path.parent)


def _write_postings(path: Path, segment: Path, rows: int) -> None:
    ends = np.memmap(segment / "rows.bin", RECORD, mode="r", shape=(rows,))["terms_to"]
    terms = np.fromfile(segment / "terms.bin", TERM, count=int(ends[-1]))
    write_postings(path, terms, ends)


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
