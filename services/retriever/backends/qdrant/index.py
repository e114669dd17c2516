"""One generation in a Qdrant server.

Every write waits until it is applied; the server then has it in its write-ahead log, and how soon that is on its disk
is the server's own setting. One retriever writes a generation; any number may read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qdrant_client import models
from qdrant_edge import Bm25

from services.common.errors import Conflict, InvalidRequest
from services.common.nodes.retriever import Close, Contents, Point, Query, Vectors, fingerprint
from services.retriever import visibility
from services.retriever.backends.base import Candidates
from services.retriever.backends.qdrant import schema
from services.retriever.backends.qdrant.filter import rendered
from services.retriever.backends.qdrant.points import dense_vectors, engine_id, extent, payload
from services.retriever.backends.qdrant.search import Searcher
from services.retriever.backends.qdrant.server import Server
from services.retriever.backends.qdrant.state import Known, States, fresh_collection
from services.retriever.backends.qdrant.vectors import LEXICAL
from services.retriever.visibility import INTEGERS

_STEP = 256
"""Points copied in one step: a search waits no longer than that takes."""
_PAGE = 1_000
_COUNTED = ["point_id", *INTEGERS]


class QdrantIndex:
    """One generation; its collection is made by the first upsert, which settles the dimensions."""

    def __init__(self, server: Server, states: States, known: Known, exact_below: int) -> None:
        self.definition = known.definition
        self._server = server
        self._states = states
        self._known = known
        self._bm25 = Bm25()
        self._searcher = Searcher(server, known.definition, self._bm25, exact_below)
        self._dimensions: int | None = None
        self._points = 0
        self._look()

    def upsert(self, tenant: str, collection: str, points: Sequence[Point], vectors: Vectors) -> None:
        self._settle(vectors.shape[1])
        rows = [
            models.PointStruct(
                id=engine_id(tenant, collection, point.point_id),
                vector={**dense, LEXICAL: self._sparse(point.text)},
                payload=payload(tenant, collection, point),
            )
            for point, dense in zip(points, dense_vectors(vectors, self.definition), strict=True)
        ]
        self._write(self._known.collection, rows)

    def end(self, tenant: str, collection: str, closes: Sequence[Close]) -> None:
        ended: dict[int, list[str]] = defaultdict(list)
        for close in closes:
            ended[close.recorded_to].append(engine_id(tenant, collection, close.point_id))
        self._check_held({point for points in ended.values() for point in points})
        operations = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(payload={"recorded_to": recorded_to}, points=points)
            )
            for recorded_to, points in ended.items()
        ]
        with self._server.reached():
            self._server.client.batch_update_points(
                self._known.collection, operations, wait=True, ordering=self._server.ordering
            )

    def search(self, asked: Sequence[tuple[Query, int]]) -> list[Candidates]:
        if not self._exists():
            return [Candidates((), ())] * len(asked)
        for query, _ in asked:
            if query.vector is not None:
                self._check_dimensions(len(query.vector))
        return self._searcher.search(self._known.collection, self._points, asked)

    def commit(self, tenant: str, collection: str, watermark: int) -> None:
        """The points were acknowledged before; the watermark follows them."""
        self._states.advance(self._known.lineage, tenant, collection, watermark)
        self._look()

    def watermark(self, tenant: str, collection: str) -> int:
        return self._states.watermark(self._known.lineage, tenant, collection)

    def watermarks(self) -> Mapping[tuple[str, str], int]:
        return self._states.watermarks(self._known.lineage)

    def erase(self, tenant: str, collection: str, doc_id: str) -> int:
        if not self._exists():
            return 0
        passages = rendered(visibility.of_document(tenant, collection, doc_id))
        with self._server.reached():
            held = self._server.client.count(self._known.collection, passages, exact=True).count
            self._server.client.delete(
                self._known.collection,
                models.FilterSelector(filter=passages),
                wait=True,
                ordering=self._server.ordering,
            )
        self._look()
        return held

    def rewrite(self) -> Generator[bool]:
        """Copy all there is into a collection of its own and delete the old one, its files and its log included.

        The server merely marks what is deleted and keeps it in a segment until a good part of that is gone, and in its
        log. Graphs are made anew in the background.
        """
        if not self._exists():
            return
        self._clear_aside()
        now, fresh = self._known.collection, fresh_collection(self._server.prefix, self._known.generation)
        self._become(replace(self._known, aside=fresh))
        try:
            schema.create(self._server, fresh, self.definition.funnel, self._dimensions or 0)
            for rows in self._pages(now, None, _STEP, vectors=True):
                self._write(fresh, [_row(record) for record in rows])
                yield True
            self._become(replace(self._known, collection=fresh, aside=now))
        finally:
            self._clear_aside()

    def _become(self, known: Known) -> None:
        self._states.save(known)
        self._known = known

    def _clear_aside(self) -> None:
        if self._known.aside:
            with self._server.reached():
                self._server.client.delete_collection(self._known.aside)
            self._become(replace(self._known, aside=""))

    def count(self) -> int:
        self._look()
        return self._points

    def unbuilt(self) -> int:
        """The server builds its graphs by itself, beside what it serves."""
        return 0

    def disk_bytes(self) -> int:
        return 0

    def memory_bytes(self) -> int:
        return 0

    def contents(self, tenant: str, collection: str) -> Generator[Contents]:
        points = total = 0
        if self._exists():
            wanted = rendered(visibility.of_collection(tenant, collection))
            for records in self._pages(self._known.collection, wanted, _PAGE):
                for held in (record.payload or {} for record in records):
                    points, total = points + 1, total + fingerprint(held["point_id"], extent(held))
                yield Contents(points, total % 2**64)

    def begin_build(self) -> None:
        """Nothing to do: see `unbuilt`."""

    def close(self) -> None:
        pass

    def _exists(self) -> bool:
        if self._dimensions is None:
            self._look()
        return self._dimensions is not None

    def _look(self) -> None:
        """Another process may have made the collection, and filled it."""
        if self._dimensions is None:
            self._dimensions = schema.dimensions(self._server, self._known.collection)
        if self._dimensions is not None:
            with self._server.reached():
                self._points = self._server.client.count(self._known.collection, exact=True).count

    def _settle(self, dimensions: int) -> None:
        if not self._exists():
            schema.create(self._server, self._known.collection, self.definition.funnel, dimensions)
            self._dimensions = dimensions
        self._check_dimensions(dimensions)

    def _check_dimensions(self, dimensions: int) -> None:
        if dimensions != self._dimensions:
            raise InvalidRequest(f"the generation has {self._dimensions} dimensions, the vector {dimensions}")

    def _check_held(self, points: set[str]) -> None:
        held: set[str] = set()
        if self._exists():
            with self._server.reached():
                found = self._server.client.retrieve(self._known.collection, list(points), with_payload=False)
            held = {str(record.id) for record in found}
        if len(points) > len(held):
            missing = len(points) - len(held)
            raise Conflict(f"the index does not hold {missing} of the points to close; rebuild the generation")

    def _sparse(self, text: str) -> models.SparseVector:
        sparse = self._bm25.embed_document(text)
        return models.SparseVector(indices=sparse.indices, values=sparse.values)

    def _write(self, collection: str, rows: list[models.PointStruct]) -> None:
        with self._server.reached():
            self._server.client.upsert(collection, rows, wait=True, ordering=self._server.ordering)

    def _pages(
        self, collection: str, wanted: models.Filter | None, size: int, vectors: bool = False
    ) -> Generator[list[models.Record]]:
        offset: Any = None
        while True:
            with self._server.reached():
                records, offset = self._server.client.scroll(
                    collection,
                    wanted,
                    limit=size,
                    offset=offset,
                    with_payload=True if vectors else _COUNTED,
                    with_vectors=vectors,
                )
            if records:
                yield records
            if offset is None:
                return


def _row(record: models.Record) -> models.PointStruct:
    vector: Any = record.vector or {}
    return models.PointStruct(id=record.id, vector=vector, payload=record.payload)
