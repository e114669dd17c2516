"""Qdrant Edge, the Qdrant engine embedded: one shard directory a generation, owned by this process alone.

`EdgeEngine(directory: Path, exact_below: int = 20_000, *, dense: bool = True)`: with `dense=False` its generations hold
sparse vectors only, for BM25: upserts ignore the vectors, searches the query's, and any dimensions will do.

Every engine call holds the interpreter lock. Nothing calls `optimize()` (it would hold the lock for tens of seconds),
so segments stay appendable and are scanned through their payload indexes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
import qdrant_edge as qe

from services.common.errors import Conflict, InvalidRequest
from services.common.moment import Extent, Span
from services.common.nodes.retriever import Close, Contents, Point, Query
from services.retriever.backends.base import Candidate, Candidates, Definition, Index
from services.retriever.backends.edge.filter import INTEGERS, of_document, pair, visible
from services.retriever.backends.edge.shard import (
    DENSE,
    LEXICAL,
    copy_points,
    create_shard,
    fresh_name,
    load_shard,
    remove_leftovers,
)
from services.retriever.backends.edge.state import State, sync_directory
from services.retriever.settings import RetrieverSettings

Floats = npt.NDArray[np.float32]

_RETURNED = ["item_id", "doc_id", "tenant", "collection", *INTEGERS]
_HNSW_EF = 96
"""Recall@10 of 1.0 at 200,000 × 384; the default's was 0.961."""


class EdgeIndex:
    """One generation in `directory`: `state.json`, and from the first upsert on the shard that it names."""

    def __init__(self, directory: Path, state: State, exact_below: int = 20_000, *, dense: bool = True) -> None:
        self.definition = state.definition()
        self._directory = directory
        self._state = state
        self._exact_below = exact_below
        self._dense = dense
        self._bm25 = qe.Bm25()
        remove_leftovers(directory, state.shard)
        self._shard = load_shard(directory / state.shard)
        self._points = self.count()

    def upsert(self, tenant: str, collection: str, points: Sequence[Point], vectors: Floats) -> None:
        shard = self._shard_for(vectors.shape[1] if self._dense else 0)
        named = [{DENSE: row} for row in vectors.tolist()] if self._dense else [{} for _ in points]
        rows = [
            qe.Point(
                _engine_id(tenant, collection, point.point_id),
                {**dense, LEXICAL: self._bm25.embed_document(point.text)},
                _payload(tenant, collection, point),
            )
            for point, dense in zip(points, named, strict=True)
        ]
        shard.update(qe.UpdateOperation.upsert_points(rows))

    def end(self, tenant: str, collection: str, closes: Sequence[Close]) -> None:
        ended: dict[int, list[qe.PointId]] = defaultdict(list)
        for close in closes:
            ended[close.recorded_to].append(_engine_id(tenant, collection, close.point_id))
        self._check_held([point for points in ended.values() for point in points])
        for recorded_to, points in ended.items():
            self._require_shard().update(qe.UpdateOperation.set_payload(points, {"recorded_to": recorded_to}))

    def search(self, asked: Sequence[tuple[Query, int]]) -> list[Candidates]:
        return [self._search(query, depth) for query, depth in asked]

    def _search(self, query: Query, depth: int) -> Candidates:
        if self._shard is None:
            return Candidates((), ())
        allowed = visible(query)
        dense: list[Candidate] = []
        if query.vector is not None and self._dense:
            self._check_dimensions(len(query.vector))
            exact = self._points <= self._exact_below
            params = qe.SearchParams(exact=exact, hnsw_ef=None if exact else _HNSW_EF)
            nearest = qe.Query.Nearest(query.vector.tolist(), using=DENSE)
            dense = self._stage(nearest, allowed, params, depth)
        lexical: list[Candidate] = []
        if query.text:
            params = qe.SearchParams(idf=qe.IdfParams(corpus=allowed))
            matching = qe.Query.Nearest(self._bm25.embed_query(query.text), using=LEXICAL)
            lexical = self._stage(matching, allowed, params, depth)
        return Candidates(dense, lexical)

    def commit(self, tenant: str, collection: str, watermark: int) -> None:
        if self._shard is not None:
            self._shard.flush()
            self._points = self.count()
        self._state.advance(tenant, collection, watermark)

    def watermark(self, tenant: str, collection: str) -> int:
        return self._state.watermark(tenant, collection)

    def watermarks(self) -> Mapping[tuple[str, str], int]:
        marks = self._state.watermarks
        return {(tenant, name): mark for tenant, names in marks.items() for name, mark in names.items()}

    def erase(self, tenant: str, collection: str, doc_id: str) -> int:
        if self._shard is None:
            return 0
        passages = of_document(tenant, collection, doc_id)
        held = int(self._shard.count(qe.CountRequest(filter=passages, exact=True)))
        self._shard.update(qe.UpdateOperation.delete_points_by_filter(passages))
        self._shard.flush()
        return held

    def rewrite(self) -> Generator[bool]:
        if self._shard is None or self._state.dimensions is None:
            return
        name = fresh_name()
        fresh = create_shard(self._directory / name, self._state.dimensions)
        try:
            yield from copy_points(self._shard, fresh)
            fresh.flush()
            self._state.point_to(name)
            fresh, self._shard = self._shard, fresh
        finally:
            fresh.close()
            remove_leftovers(self._directory, self._state.shard)
        self._points = self.count()

    def count(self) -> int:
        return 0 if self._shard is None else int(self._shard.info().points_count)

    def unbuilt(self) -> int:
        return self.count()

    def disk_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._directory.rglob("*") if path.is_file())

    def contents(self, tenant: str, collection: str) -> Generator[Contents]:
        yield Contents(0, 0)

    def begin_build(self) -> None:
        return None

    def close(self) -> None:
        if self._shard is None:
            return
        if self._directory.exists():  # else somebody has removed it, and there is nothing to flush to
            self._shard.flush()
        self._shard.close()
        self._shard = None

    def _stage(self, query: qe.Query, allowed: qe.Filter, params: qe.SearchParams, depth: int) -> list[Candidate]:
        """The best `depth` items; asks for more points while several of them are of one item."""
        assert self._shard is not None
        limit = depth
        while True:
            points = self._shard.query(
                qe.QueryRequest(limit=limit, query=query, filter=allowed, params=params, with_payload=_RETURNED)
            )
            best: dict[str, Candidate] = {}
            for point in points:
                found = _candidate(point)
                best.setdefault(found.item_id, found)
            if len(best) >= depth or len(points) < limit:
                return sorted(best.values(), key=lambda found: (-found.score, found.item_id))[:depth]
            limit *= 2

    def _shard_for(self, dimensions: int) -> qe.EdgeShard:
        if self._state.dimensions is None:
            self._state.settle(dimensions)
        self._check_dimensions(dimensions)
        if self._shard is None:
            self._shard = create_shard(self._directory / self._state.shard, dimensions)
        return self._shard

    def _check_dimensions(self, dimensions: int) -> None:
        if dimensions != self._state.dimensions:
            raise InvalidRequest(f"the generation has {self._state.dimensions} dimensions, the vector {dimensions}")

    def _require_shard(self) -> qe.EdgeShard:
        if self._shard is None:
            raise Conflict("the index holds no points to close; rebuild the generation")
        return self._shard

    def _check_held(self, points: Sequence[qe.PointId]) -> None:
        held = {str(record.id) for record in self._require_shard().retrieve(list(points), False, False)}
        missing = len({str(point) for point in points} - held)
        if missing:
            raise Conflict(f"the index does not hold {missing} of the points to close; rebuild the generation")


def _engine_id(tenant: str, collection: str, point_id: str) -> str:
    """The engine takes UUIDs only, and one tenant's ids must not meet another's."""
    name = "\0".join((tenant, collection, point_id)).encode()
    return str(UUID(bytes=hashlib.blake2b(name, digest_size=16).digest()))


def _payload(tenant: str, collection: str, point: Point) -> dict[str, object]:
    return {
        "tenant": tenant,
        "collection": collection,
        "target": point.target.value,
        "item_id": point.item_id,
        "doc_id": point.doc_id,
        "valid_from": point.extent.valid.start,
        "valid_to": point.extent.valid.end,
        "recorded_from": point.extent.recorded.start,
        "recorded_to": point.extent.recorded.end,
        "metadata": [pair(key, value) for key, value in point.metadata.items()],
    }


def _candidate(point: qe.ScoredPoint) -> Candidate:
    held = point.payload or {}
    valid = Span(held["valid_from"], held["valid_to"])
    extent = Extent(valid, Span(held["recorded_from"], held["recorded_to"]))
    return Candidate(held["item_id"], held["doc_id"], held["tenant"], held["collection"], extent, point.score)


def engine(settings: RetrieverSettings) -> EdgeEngine:
    return EdgeEngine(settings.home / "index", settings.retriever_exact_below)


class EdgeEngine:
    """Generations as directories under `directory`."""

    def __init__(self, directory: Path, exact_below: int = 20_000, *, dense: bool = True) -> None:
        self._directory = directory
        self._exact_below = exact_below
        self._dense = dense

    def open(self, generation: str) -> Index | None:
        inside = self._directory / generation
        try:
            state = State.read(inside / "state.json")
        except FileNotFoundError:
            return None
        return EdgeIndex(inside, state, self._exact_below, dense=self._dense)

    def create(self, generation: str, definition: Definition) -> Index:
        inside = self._directory / generation
        inside.mkdir(parents=True, exist_ok=True)
        state = State.define(inside / "state.json", definition)
        return EdgeIndex(inside, state, self._exact_below, dense=self._dense)

    def drop(self, generation: str) -> None:
        shutil.rmtree(self._directory / generation, ignore_errors=True)

    def replace(self, generation: str, by: str) -> Index:
        self.drop(generation)
        (self._directory / by).rename(self._directory / generation)
        sync_directory(self._directory)
        opened = self.open(generation)
        assert opened is not None
        return opened
