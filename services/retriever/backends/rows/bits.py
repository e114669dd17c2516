"""Which of the first rows of all, one bit each: an eighth of a mask to copy, to count and to hand to an engine."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from services.retriever.backends.rows.lookup import Rows

Mask = npt.NDArray[np.bool_]
Packed = npt.NDArray[np.uint8]


class Bits:
    """Bit i % 8 of byte i // 8 says whether row i is one of them."""

    def __init__(self, packed: Packed, rows: int) -> None:
        """packed: whole words of 64 bits, none set from `rows` on."""
        self.packed = packed
        self.rows = rows

    @classmethod
    def none(cls, rows: int) -> Self:
        return cls(np.zeros(8 * -(-rows // 64), np.uint8), rows)

    @classmethod
    def of(cls, mask: Mask) -> Self:
        bits = cls.none(len(mask))
        bits.packed[: -(-len(mask) // 8)] = np.packbits(mask, bitorder="little")
        return bits

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    @cached_property
    def _count(self) -> int:
        return int(np.bitwise_count(self.packed.view(np.uint64)).sum())

    def __and__(self, other: Bits) -> Bits:
        """Those that are in both, which are of as many rows."""
        return Bits(self.packed & other.packed, self.rows)

    def moved(self, first: int, rows: int) -> Bits:
        """The same among more rows, its own counting from `first` on."""
        into = Bits.none(rows)
        into.put(first, self)
        into._count = len(self)  # counted already
        return into

    def put(self, first: int, others: Bits) -> None:
        """Set those of others, whose rows count from `first` on, where none is set yet."""
        byte, shift = divmod(first, 8)
        packed = others.packed[: -(-others.rows // 8)]
        into = self.packed[byte : byte + len(packed)]
        if not shift:
            into |= packed
            return
        into |= packed << shift
        after = self.packed[byte + 1 : byte + 1 + len(packed)]
        after |= packed[: len(after)] >> (8 - shift)

    def holds(self, rows: Rows) -> Mask:
        """Which of the rows are among them."""
        return np.asarray(self.packed[rows >> 3] >> (rows & 7) & 1, np.bool_)

    def mask(self, first: int = 0) -> Mask:
        """Of the rows from `first` on."""
        byte, skipped = divmod(first, 8)
        told = np.unpackbits(self.packed[byte:], count=self.rows - 8 * byte, bitorder="little")
        return told.view(np.bool_)[skipped:]

    def listed(self) -> Rows:
        """Ascending."""
        return np.flatnonzero(self.mask())
