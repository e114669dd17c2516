"""What an index engine promises the retriever."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.common.moment import Extent
from services.common.nodes.retriever import Close, Point, Query


@dataclass(frozen=True, slots=True)
class Candidate:
    """One item as one stage found it. score: a cosine (dense) or a BM25 score (lexical)."""

    item_id: str
    doc_id: str
    tenant: str
    collection: str
    extent: Extent
    score: float


@dataclass(frozen=True, slots=True)
class Candidates:
    """What both stages found, each best first, each item once a stage."""

    dense: Sequence[Candidate]
    lexical: Sequence[Candidate]


class Index(Protocol):
    """One generation's index. Its methods block and are never called concurrently.

    A point is known by (tenant, collection, point_id), so that nobody's ids can reach another's points.
    """

    def upsert(self, tenant: str, collection: str, points: Sequence[Point], vectors: npt.NDArray[np.float32]) -> None:
        """Insert points or replace them whole. vectors: float32, shape (len(points), dimensions).

        The first upsert settles the generation's dimensions; other ones raise InvalidRequest. The text is turned into
        a sparse vector and not kept.
        """
        ...

    def end(self, tenant: str, collection: str, closes: Sequence[Close]) -> None:
        """Set where points end in record time. Raises Conflict where the index holds no such point."""
        ...

    def search(self, query: Query, depth: int) -> Candidates:
        """The best `depth` items of each stage among the points visible to the query.

        Visible: of the query's tenant, collection and target, with a moment inside the extent to the microsecond, and
        passing its filters. BM25's term statistics count the visible points and no others.
        """
        ...

    def commit(self, tenant: str, collection: str, watermark: int) -> None:
        """Make every change so far durable, and only then the watermark."""
        ...

    def watermark(self, tenant: str, collection: str) -> int:
        """The last watermark committed, OPEN_START if none was."""
        ...

    def watermarks(self) -> Mapping[tuple[str, str], int]:
        """Every watermark, by tenant and collection."""
        ...

    def erase(self, tenant: str, collection: str, doc_id: str) -> int:
        """Delete the passages of a document durably; returns how many points there were."""
        ...

    def rewrite(self) -> Generator[bool]:
        """Write the index anew in short steps, so that nothing is left of what was deleted from it.

        Searches may come between the steps, changes may not. Given up or killed half way, all is as it was.
        """
        ...

    def count(self) -> int:
        """How many points the index holds, whatever their extents."""
        ...

    def close(self) -> None:
        """Release what the index holds. What was committed stays."""
        ...


class Engine(Protocol):
    """Where generations live. The retriever calls it from one thread at a time."""

    def open(self, generation: str) -> Index | None:
        """The generation's index, None where it was never created."""
        ...

    def create(self, generation: str) -> Index:
        """A new, empty index for a generation that has none."""
        ...

    def drop(self, generation: str) -> None:
        """Remove a generation's index, which is closed, with everything in it."""
        ...

    def replace(self, generation: str, by: str) -> Index:
        """Give the index of the generation `by` the name of another; both are closed, the other's is removed.

        Killed half way, either one index or the other has the name, or none has and `by` is still there.
        """
        ...
