"""What an index engine promises the retriever."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.moment import Extent
from services.common.nodes.funnel import PLAIN, Funnel
from services.common.nodes.retriever import Close, Contents, Point, Query, Stage, Vectors


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
    """What both stages found, each best first, each item once a stage, and how each was searched."""

    dense: Sequence[Candidate]
    lexical: Sequence[Candidate]
    plan: Sequence[Stage] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """What a generation's index is made to be. basis: float32, shape (funnel.dimensions, dimensions), if rotated."""

    funnel: Funnel = PLAIN
    basis: Vectors | None = None


class Build(Protocol):
    """A build under way: the same points with a better structure, made by another process in a place of its own."""

    def prepare(self) -> Generator[bool]:
        """Copy what the process works on, in short steps; searches may come between them, changes may not."""
        ...

    @property
    def command(self) -> Sequence[str]:
        """The arguments of the process that makes it, after the interpreter; killed at any instant it may be rerun."""
        ...

    def adopt(self) -> Generator[bool]:
        """Put what was built in the place of what serves, in short steps: a search waits for one of them at most.

        What was written since the build began is taken along. Searches and changes may come between the steps; the
        last one swaps. Given up or killed half way, all is as it was.
        """
        ...

    def abandon(self) -> None:
        """Forget the build and remove what there is of it."""
        ...


class Index(Protocol):
    """One generation's index. Its methods block and are never called concurrently.

    A point is known by (tenant, collection, point_id), so that nobody's ids can reach another's points.
    """

    definition: Definition

    def upsert(self, tenant: str, collection: str, points: Sequence[Point], vectors: Vectors) -> None:
        """Insert points or replace them whole. vectors: float32, shape (len(points), dimensions).

        The first upsert settles the generation's dimensions; other ones raise InvalidRequest. The text is turned into
        a sparse vector and not kept.
        """
        ...

    def end(self, tenant: str, collection: str, closes: Sequence[Close]) -> None:
        """Set where points end in record time. Raises Conflict where the index holds no such point."""
        ...

    def search(self, asked: Sequence[tuple[Query, int]]) -> list[Candidates]:
        """For each (query, depth) the best `depth` items of each stage among the points visible to the query, in order.

        Visible: of the query's tenant, collection and target, with a moment inside the extent to the microsecond, and
        passing its filters. BM25's term statistics count the visible points and no others. Several queries at once
        cost less than one after the other.
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

    def unbuilt(self) -> int:
        """How many of them were written since the last build, and are searched exhaustively."""
        ...

    def disk_bytes(self) -> int:
        """What the index takes on disk, 0 where it lies elsewhere."""
        ...

    def memory_bytes(self) -> int:
        """What the index takes of main memory at present, 0 where the engine cannot tell."""
        ...

    def contents(self, tenant: str, collection: str) -> Generator[Contents]:
        """The collection's points, counted and fingerprinted in short steps; each yields what it has seen."""
        ...

    def begin_build(self) -> Build | None:
        """Begin a build if enough is unbuilt that one pays, else None. No other may be under way."""
        ...

    def close(self) -> None:
        """Release what the index holds. What was committed stays."""
        ...


class Engine(Protocol):
    """Where generations live. The retriever calls it from one thread at a time."""

    def open(self, generation: str) -> Index | None:
        """The generation's index, None where it was never created."""
        ...

    def create(self, generation: str, definition: Definition) -> Index:
        """A new, empty index for a generation that has none; its definition stays with it."""
        ...

    def drop(self, generation: str) -> None:
        """Remove a generation's index, which is closed, with everything in it."""
        ...

    def replace(self, generation: str, by: str) -> Index:
        """Give the index of the generation `by` the name of another; both are closed, the other's is removed.

        Killed half way, either one index or the other has the name, or none has and `by` is still there.
        """
        ...
