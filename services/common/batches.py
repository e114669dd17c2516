"""Group a stream into batches (itertools.batched is not in Python 3.11)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to `size` items, in order, none of them empty."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch
