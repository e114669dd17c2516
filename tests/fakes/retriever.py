"""Points, changes and queries for tests of the retriever."""

import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span
from services.common.nodes.retriever import Changes, Close, Point, Query, Retriever, Target
from services.common.nodes.scope import Scope, Stretch
from services.retriever.backends import open_engine
from services.retriever.retriever import IndexRetriever
from services.retriever.settings import RetrieverSettings

DIMENSIONS = 8
NONE = np.empty((0, DIMENSIONS), dtype=np.float32)


@contextmanager
def index_directory() -> Iterator[Path]:
    """A temporary directory, in memory where there is one: shards sync dozens of files, some 10 ms each on a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


def retriever_over(backend: str, home: Path, wait_seconds: float = 5.0, **settings: object) -> IndexRetriever:
    """A retriever of its own over one backend."""
    chosen = RetrieverSettings(home=home, retriever_backend=backend, **settings)
    return IndexRetriever(open_engine(chosen), wait_seconds)


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)


def point(
    point_id: str,
    recorded: tuple[int, int] = (1, OPEN_END),
    valid: tuple[int, int] = (OPEN_START, OPEN_END),
    text: str = "a text",
    item_id: str | None = None,
    target: Target = Target.PASSAGES,
    **metadata: str,
) -> Point:
    extent = Extent(Span(*valid), Span(*recorded))
    return Point(point_id, target, item_id or point_id, f"doc-{item_id or point_id}", extent, text, metadata)


def changes(points: Sequence[Point] = (), closes: Sequence[Close] = (), vectors: np.ndarray | None = None) -> Changes:
    if vectors is None:
        vectors = np.array([vector(sum(one.point_id.encode())) for one in points]) if points else NONE
    return Changes(points, vectors, closes)


def query(
    text: str = "",
    vector: np.ndarray | None = None,
    as_of: int = 0,
    known_at: int = 10,
    tenant: str = "acme",
    collection: str = "notes",
    target: Target = Target.PASSAGES,
    limit: int = 1_000,
    generation: str = "g1",
    **filters: Sequence[str],
) -> Query:
    scope = Scope(tenant, collection, generation, Moment(as_of, known_at))
    return Query(scope, target, text, vector, limit, filters)


async def each(batches: Sequence[Changes]) -> AsyncIterator[Changes]:
    for batch in batches:
        yield batch


async def apply(
    retriever: Retriever,
    *batches: Changes,
    start: int = OPEN_START,
    end: int = 10,
    tenant: str = "acme",
    collection: str = "notes",
    generation: str = "g1",
) -> int:
    return await retriever.apply(generation, Stretch(tenant, collection, start, end), each(batches))
