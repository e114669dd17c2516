"""A search engine asked by threads of its own process, on command: `CLIENTS SECONDS` in a line on standard input, one
JSON object in a line on standard output. Imports nothing of the project: it also runs where that is not installed."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Search = Callable[[str, list[float]], object]
"""Finds the best passages for a query's text and vector."""


def written(directory: Path) -> tuple[list[str], Vectors]:
    """The passages' texts and their vectors, shape (passages, dimensions)."""
    return json.loads((directory / "passages.json").read_text()), np.load(directory / "passages.npy")


def serve(directory: Path, search: Search) -> None:
    """Answer commands until standard input ends; the first line says that the engine is ready."""
    texts = json.loads((directory / "queries.json").read_text())
    queries = list(zip(texts, np.load(directory / "queries.npy").tolist(), strict=True))
    for text, vector in queries[:3]:
        search(text, vector)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        clients, seconds = line.split()
        print(json.dumps(_load(queries, search, int(clients), float(seconds))), flush=True)


def _load(queries: list[tuple[str, list[float]]], search: Search, clients: int, seconds: float) -> dict[str, object]:
    """Throughput in searches a second, and each search's milliseconds."""
    turn, took = count(), list[float]()
    began = time.perf_counter()

    def client() -> None:
        while time.perf_counter() - began < seconds:
            text, vector = queries[next(turn) % len(queries)]
            asked = time.perf_counter()
            search(text, vector)
            took.append((time.perf_counter() - asked) * 1000)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"per_second": len(took) / (time.perf_counter() - began), "ms": {"search": took}}
