"""The retriever: vectors + text + moment → passages."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.common.moment import Extent
from services.common.nodes.funnel import Funnel
from services.common.nodes.scope import Scope, Stretch

Vectors = npt.NDArray[np.float32]


class Target(StrEnum):
    """What is searched: passages of documents, or the canonical questions of facts."""

    PASSAGES = "passages"
    QUESTIONS = "questions"


@dataclass(frozen=True, slots=True)
class Query:
    """Without a vector the search is lexical only; with an empty text it is dense only.

    vector: float32, shape (dimensions,). filters: metadata key → the values any of which pass. exact: search the full
    vectors exhaustively, whatever the generation's funnel; what a funnel's recall is measured against.
    """

    scope: Scope
    target: Target
    text: str
    vector: Vectors | None
    limit: int
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """One item (passage id or question key), best first; `dense` is a cosine, `lexical` a BM25 score.

    The ranks count from 1 in the stage that found the item; None where that stage did not.
    """

    item_id: str
    doc_id: str
    score: float
    dense: float | None
    lexical: float | None
    extent: Extent
    dense_rank: int | None = None
    lexical_rank: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage of a search did: its method, how many points it expected to pass of how many, and its time.

    method: "exact" (every allowed point's full vector), "codes" (every allowed point's code, then full vectors),
    "graph" (through the graph among the allowed points), "lists" (inverted lists), "postings" (BM25), or a fusion's
    name.
    """

    name: str
    method: str
    passing: int
    points: int
    ms: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, best first, and how."""

    hits: Sequence[Hit]
    plan: Sequence[Stage] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a generation stands. points: in the whole of it; unbuilt: those of them written since the last build.

    disk_bytes: what it takes on disk, 0 where it lies elsewhere. memory_bytes: of main memory at present, 0 where the
    engine cannot tell. building: whether a build is under way, or waits to be tried again.
    """

    points: int
    unbuilt: int
    disk_bytes: int
    memory_bytes: int
    building: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """A collection's points in a generation: their number and the sum of `fingerprint` over them, modulo 2**64."""

    points: int
    fingerprint: int


@dataclass(frozen=True, slots=True)
class Point:
    """One visible rectangle of one item, as the index holds it."""

    point_id: str
    target: Target
    item_id: str
    doc_id: str
    extent: Extent
    text: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Close:
    """Ends a rectangle in record time; the past still sees it."""

    point_id: str
    recorded_to: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Part of a stretch. vectors: float32, shape (len(upserts), dimensions)."""

    upserts: Sequence[Point]
    vectors: Vectors
    closes: Sequence[Close]


def fingerprint(point_id: str, extent: Extent) -> int:
    """64 bits that name a point and where it is visible."""
    valid, recorded = extent.valid, extent.recorded
    named = f"{point_id} {valid.start} {valid.end} {recorded.start} {recorded.end}".encode()
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest())


class Retriever(Protocol):
    async def define(self, generation: str, funnel: Funnel, basis: Vectors | None = None) -> None:
        """Create a generation with its funnel. basis: of a rotated one, float32, shape (funnel.dimensions, dimensions).

        Safe to repeat; another funnel for a generation that exists is refused with Conflict. One that is applied to
        without having been defined has the plain Funnel().
        """
        ...

    async def search(self, query: Query) -> Found:
        """The best items visible at the scope's moment, each once, best first.

        Waits for the watermark to reach `known_at` as long as the deadline allows, then raises BehindWatermark.
        """
        ...

    async def apply(self, generation: str, stretch: Stretch, batches: AsyncIterator[Changes]) -> int:
        """Apply a stretch durably and return the new watermark. Idempotent; one that starts beyond the watermark
        is refused with Conflict, for something in between would be lost."""
        ...

    async def position(self, generation: str, tenant: str, collection: str) -> int:
        """The watermark: the record time up to which the collection is durably applied, OPEN_START if never."""
        ...

    async def standing(self, generation: str) -> Standing | None:
        """How the generation stands, None where there is no such generation."""
        ...

    async def contents(self, generation: str, tenant: str, collection: str) -> Contents:
        """Counts and fingerprints every point of the collection, whatever its extent. Searches go on meanwhile."""
        ...

    async def erase(self, generation: str, tenant: str, collection: str, doc_id: str) -> int:
        """Remove a document's points and all that the engine would keep of them; returns how many points there were.

        Durable when it returns, safe to repeat. Searches go on meanwhile, without the document; applying waits.
        """
        ...

    async def drop(self, generation: str) -> None:
        """Remove a generation, if there is one."""
        ...

    async def replace(self, generation: str, by: str) -> None:
        """Put the generation `by`, built beside, in the place of another, whose name it takes; searches see the one or
        the other. Raises Conflict where `by` is behind in any collection, or does not exist."""
        ...
