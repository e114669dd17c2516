"""Points, changes and queries for tests of the retriever."""

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import numpy as np
from qdrant_client import QdrantClient

from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span
from services.common.nodes.retriever import Changes, Close, Point, Query, Retriever, Target
from services.common.nodes.scope import Scope, Stretch
from services.common.rpc.client import channel
from services.common.rpc.server import start
from services.protos.retriever_pb2_grpc import add_RetrieverServicer_to_server
from services.retriever.backends import open_engine
from services.retriever.retriever import IndexRetriever
from services.retriever.server import RetrieverServicer
from services.retriever.settings import RetrieverSettings

BACKENDS = ["memory", "edge", "faiss", "qdrant"]
"""Every index engine, each held to the same contract; "memory" is the oracle of the others."""
DURABLE = [name for name in BACKENDS if name != "memory"]
QDRANT_URL = os.environ.get("ALMANAC_TEST_QDRANT_URL", "")
"""A server to test against; without one the client's own engine is, in a directory."""
DIMENSIONS = 8
NONE = np.empty((0, DIMENSIONS), dtype=np.float32)


@contextmanager
def index_directory() -> Iterator[Path]:
    """A temporary directory, in memory where there is one: shards sync dozens of files, some 10 ms each on a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        try:
            yield Path(directory)
        finally:
            if QDRANT_URL:
                _clear_server(_prefix(Path(directory)))


def engine_settings(backend: str, home: Path, **settings: object) -> RetrieverSettings:
    """Settings of one backend whose state lies under `home`, in a Qdrant server under a prefix of its own."""
    place = {"retriever_qdrant_url": QDRANT_URL or str(home / "qdrant"), "retriever_qdrant_prefix": _prefix(home)}
    return RetrieverSettings(home=home, retriever_backend=backend, **{**place, **settings})


def retriever_over(backend: str, home: Path, wait_seconds: float = 5.0, **settings: object) -> IndexRetriever:
    """A retriever of its own over one backend."""
    return IndexRetriever(open_engine(engine_settings(backend, home, **settings)), wait_seconds)


@asynccontextmanager
async def served(retriever: Retriever, directory: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A line to a gRPC server of the retriever."""
    address = f"unix:{directory / 'retriever.sock'}"
    server = await start(
        address,
        "almanac.retriever.v1.Retriever",
        lambda server: add_RetrieverServicer_to_server(RetrieverServicer(retriever), server),
    )
    async with channel(address) as line:
        yield line
    await server.stop(None)


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)


ANY = vector(99)


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


async def found(retriever: Retriever, **asked: object) -> set[str]:
    """The items a search finds, by a vector if nothing else is said."""
    return {hit.item_id for hit in (await retriever.search(query(**{"vector": ANY, **asked}))).hits}


def _prefix(home: Path) -> str:
    return f"test-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"


def _clear_server(prefix: str) -> None:
    client = QdrantClient(QDRANT_URL, check_compatibility=False)
    for one in client.get_collections().collections:
        if one.name.startswith(prefix):
            client.delete_collection(one.name)
    client.close()
