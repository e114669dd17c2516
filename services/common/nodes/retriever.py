"""The retriever: vectors + text + moment → passages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.common.moment import Extent
from services.common.nodes.scope import Scope, Stretch


class Target(StrEnum):
    """What is searched: passages of documents, or the canonical questions of facts."""

    PASSAGES = "passages"
    QUESTIONS = "questions"


@dataclass(frozen=True, slots=True)
class Query:
    """Without a vector the search is lexical only; with an empty text it is dense only.

    vector: float32, shape (dimensions,). filters: metadata key → the values any of which pass.
    """

    scope: Scope
    target: Target
    text: str
    vector: npt.NDArray[np.float32] | None
    limit: int
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """One item (passage id or question key), best first; `dense` is a cosine, `lexical` a BM25 score."""

    item_id: str
    doc_id: str
    score: float
    dense: float | None
    lexical: float | None
    extent: Extent


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
    vectors: npt.NDArray[np.float32]
    closes: Sequence[Close]


class Retriever(Protocol):
    async def search(self, query: Query) -> list[Hit]:
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
