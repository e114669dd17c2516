"""The builder process: `python -m services.retriever.backends.rows.builder TASK` (JSON, as build.py writes it).

It reads the first rows of a segment, writes their postings and their coarse index aside and renames them. Nice to
others, and gone with its parent.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from services.retriever.backends.durable import sync_directory
from services.retriever.backends.process import behind_everybody, gone_with
from services.retriever.backends.rows.build import COARSE, POSTINGS
from services.retriever.backends.rows.postings import TERM, write_postings
from services.retriever.backends.rows.segment import RECORD
from services.retriever.backends.rows.state import State


def main(task: dict[str, Any]) -> None:
    gone_with(task["parent"])
    behind_everybody()
    build(task)


def build(task: dict[str, Any]) -> None:
    """Write the index the task describes; killed at any instant it may be done again."""
    segment, rows = Path(task["segment"]), task["rows"]
    definition = State.read(segment.parent, task["engine"]).definition()
    vectors = np.memmap(segment / "vectors.bin", np.float32, mode="r", shape=(rows, task["dimensions"]))
    write = importlib.import_module(task["module"]).write
    previous = Path(task["previous"]) if task["previous"] else None
    path = segment / task["name"]
    _place(path.with_suffix(POSTINGS), lambda aside: _write_postings(aside, segment, rows))
    _place(path.with_suffix(COARSE), lambda aside: write(aside, previous, definition, vectors, task["option"]))


def _place(path: Path, write: Callable[[Path], None]) -> None:
    """Write aside, make it durable, and rename it."""
    aside = path.with_suffix(".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.unlink(missing_ok=True)
    write(aside)
    for part in (aside, *aside.rglob("*")):
        held = os.open(part, os.O_RDONLY)
        os.fsync(held)
        os.close(held)
    aside.replace(path)
    sync_directory(path.parent)


def _write_postings(path: Path, segment: Path, rows: int) -> None:
    ends = np.memmap(segment / "rows.bin", RECORD, mode="r", shape=(rows,))["terms_to"]
    terms = np.fromfile(segment / "terms.bin", TERM, count=int(ends[-1]))
    write_postings(path, terms, ends)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
