"""64-bit codes → rows: which row holds a point, and which rows carry a metadata entry."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

_RECENT = 8_192
"""Entries kept in a dictionary before they are sorted in with the others, 12 bytes each."""


def digest(*parts: str) -> bytes:
    """16 bytes that name the parts; one tenant's names do not meet another's if the tenant is one of them."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def code(*parts: str) -> int:
    """The first 64 bits of the parts' digest."""
    return int.from_bytes(digest(*parts)[:8], "little")


class Lookup:
    """Every row added under a code, in ascending order. Codes are hashes: who must be sure compares what is behind."""

    def __init__(self, codes: npt.NDArray[Any], rows: npt.NDArray[Any]) -> None:
        """codes: uint64, rows: ascending, both of shape (entries,)."""
        self._sort(codes, rows)

    def add(self, code: int, row: int) -> None:
        self._recent[code].append(row)
        self._unsorted += 1
        if self._unsorted > _RECENT + len(self._codes) // 4:
            self._fold()

    def rows(self, code: int) -> Rows:
        wanted = np.uint64(code)
        first, last = (int(np.searchsorted(self._codes, wanted, side)) for side in ("left", "right"))
        recent = self._recent.get(code, [])
        return np.concatenate([self._rows[first:last].astype(np.int64), np.array(recent, np.int64)])

    def allocated(self) -> int:
        """Bytes, without the few that are not sorted in yet."""
        return self._codes.nbytes + self._rows.nbytes

    def _fold(self) -> None:
        pairs = [(code, row) for code, rows in self._recent.items() for row in rows]
        codes = np.array([code for code, _ in pairs], np.uint64)
        rows = np.array([row for _, row in pairs], np.uint32)
        self._sort(np.concatenate([self._codes, codes]), np.concatenate([self._rows, rows]))

    def _sort(self, codes: npt.NDArray[Any], rows: npt.NDArray[Any]) -> None:
        order = np.argsort(codes, kind="stable")
        self._codes = np.asarray(codes, np.uint64)[order]
        self._rows = np.asarray(rows, np.uint32)[order]
        self._recent: dict[int, list[int]] = defaultdict(list)
        self._unsorted = 0
