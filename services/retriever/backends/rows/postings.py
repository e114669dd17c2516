"""BM25's postings: for each term the rows that carry it and their weights.

Those of the built rows lie in one file that is mapped, those written since in dictionaries. A row's weight for a term
is settled when it is written (qdrant_edge.Bm25); only a term's rarity depends on what is visible.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

TERM = np.dtype([("term", "<u4"), ("weight", "<f4")])
"""A term of one row."""
Terms = npt.NDArray[np.void]
"""Of dtype TERM."""
Weights = npt.NDArray[np.float32]
Posting = tuple[npt.NDArray[np.uint32], Weights]
"""Rows, ascending, and their weights."""

_HEAD = np.dtype([("terms", "<u8"), ("postings", "<u8")])
_NONE: Posting = (np.empty(0, np.uint32), np.empty(0, np.float32))


def write_postings(path: Path, terms: Terms, ends: npt.NDArray[np.uint64]) -> None:
    """terms: of all rows, one row after the other; ends: where each row's end, shape (rows,)."""
    order = np.argsort(terms["term"], kind="stable")
    ended = ends.astype(np.int64)
    counts = ended - np.append(0, ended[:-1])
    rows = np.repeat(np.arange(len(ends), dtype=np.uint32), counts)[order]
    named, starts = np.unique(terms["term"][order], return_index=True)
    with path.open("wb") as file:
        for part in (
            np.array([(len(named), len(rows))], _HEAD),
            np.append(starts, len(rows)).astype(np.uint64),
            named,
            rows,
            np.ascontiguousarray(terms["weight"][order]),
        ):
            file.write(part.tobytes())


class BuiltPostings:
    """As `write_postings` wrote them; pages are read when touched."""

    def __init__(self, path: Path) -> None:
        held = np.memmap(path, np.uint8, mode="r")
        head = held[: _HEAD.itemsize].view(_HEAD)[0]
        terms, postings = int(head["terms"]), int(head["postings"])
        sizes = [_HEAD.itemsize, 8 * (terms + 1), 4 * terms, 4 * postings, 4 * postings]
        _, starts, named, rows, weights = np.split(held, np.cumsum(sizes)[:-1])
        self._starts, self._named = starts.view(np.uint64), named.view(np.uint32)
        self._rows, self._weights = rows.view(np.uint32), weights.view(np.float32)

    def of_term(self, term: int) -> Posting:
        at = int(np.searchsorted(self._named, np.uint32(term)))
        if at == len(self._named) or int(self._named[at]) != term:
            return _NONE
        start, end = int(self._starts[at]), int(self._starts[at + 1])
        return self._rows[start:end], self._weights[start:end]


class RecentPostings:
    """Of rows that are not built yet."""

    def __init__(self) -> None:
        self._rows: dict[int, array[int]] = defaultdict(lambda: array("I"))
        self._weights: dict[int, array[float]] = defaultdict(lambda: array("f"))

    def add(self, row: int, terms: Terms) -> None:
        for term, weight in terms.tolist():
            self._rows[term].append(row)
            self._weights[term].append(weight)

    def of_term(self, term: int) -> Posting:
        if term not in self._rows:
            return _NONE
        return np.array(self._rows[term], np.uint32), np.array(self._weights[term], np.float32)
