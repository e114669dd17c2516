"""One generation in Qdrant Edge, the Qdrant engine embedded: one shard directory, owned by this process alone.

Every engine call holds the interpreter lock. Nothing here calls `optimize()` (it would hold the lock for tens of
seconds): a builder process does, on a copy. What is written meanwhile lies in a segment beside what was built, and is
searched exhaustively.
"""

from __future__ import annotations

import os
import weakref
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import qdrant_edge as qe

from services.common.errors import Conflict, InvalidRequest
from services.common.nodes.retriever import Close, Contents, Point, Query, fingerprint
from services.retriever.backends.base import Build, Candidates
from services.retriever.backends.durable import own
from services.retriever.backends.edge.build import EdgeBuild
from services.retriever.backends.edge.filter import of_collection, of_document
from services.retriever.backends.edge.points import dense_vectors, engine_id, extent, payload
from services.retriever.backends.edge.schema import INTEGERS, LEXICAL
from services.retriever.backends.edge.search import Searcher
from services.retriever.backends.edge.shard import copy_points, create_shard, fresh_name, load_shard, remove_leftovers
from services.retriever.backends.edge.state import State
from services.retriever.backends.residency import mapped_bytes

Floats = npt.NDArray[np.float32]

_BUILT_SHARE = 0.2
"""Unbuilt points for each built one from which on a build pays: its cost stays a constant share of the writing."""
_SEEN = 1_000
"""Points of a collection counted in one step."""


@dataclass(frozen=True, slots=True)
class Options:
    """exact_below, build_above: as in RetrieverSettings. dense: whether generations hold dense vectors at all."""

    exact_below: int
    build_above: int
    dense: bool


class EdgeIndex:
    """One generation in `directory`: `state.json`, and from the first upsert on the shard that it names."""

    def __init__(self, directory: Path, state: State, options: Options) -> None:
        self.definition = state.definition()
        self._directory = directory
        self._state = state
        self._options = options
        self._bm25 = qe.Bm25()
        self._searcher = Searcher(self.definition, self._bm25, options.exact_below, options.dense)
        self._written: dict[qe.PointId, None] | None = None
        """The points written since a build began, None where none is under way."""
        self._replayed = 0
        """How many of them the build has taken along."""
        # The engine guards a shard by its write-ahead log, and there is none.
        self._release = weakref.finalize(self, os.close, own(directory))
        remove_leftovers(directory, state.shard)
        self._shard = load_shard(directory / state.shard)
        self._points = self.count()
        self._unbuilt = state.unbuilt

    def upsert(self, tenant: str, collection: str, points: Sequence[Point], vectors: Floats) -> None:
        shard = self._shard_for(vectors.shape[1] if self._options.dense else 0)
        dense = dense_vectors(vectors, self.definition) if self._options.dense else [{} for _ in points]
        rows = [
            qe.Point(
                engine_id(tenant, collection, point.point_id),
                {**named, LEXICAL: self._bm25.embed_document(point.text)},
                payload(tenant, collection, point),
            )
            for point, named in zip(points, dense, strict=True)
        ]
        self._touch([row.id for row in rows])
        shard.update(qe.UpdateOperation.upsert_points(rows))

    def end(self, tenant: str, collection: str, closes: Sequence[Close]) -> None:
        ended: dict[int, list[qe.PointId]] = defaultdict(list)
        for close in closes:
            ended[close.recorded_to].append(engine_id(tenant, collection, close.point_id))
        points = [point for together in ended.values() for point in together]
        self._check_held(points)
        self._touch(points)
        for recorded_to, together in ended.items():
            self.serving().update(qe.UpdateOperation.set_payload(together, {"recorded_to": recorded_to}))

    def search(self, asked: Sequence[tuple[Query, int]]) -> list[Candidates]:
        if self._shard is None:
            return [Candidates((), ()) for _ in asked]
        for query, _ in asked:
            if query.vector is not None and self._options.dense:
                self._check_dimensions(len(query.vector))
        return self._searcher.search(self._shard, self._points, asked)

    def commit(self, tenant: str, collection: str, watermark: int) -> None:
        if self._shard is not None:
            self._shard.flush()
            self._points = self.count()
        self._state.advance(tenant, collection, watermark, self.unbuilt())

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
        fresh = create_shard(self._directory / name, self.definition.funnel, self._state.dimensions)
        try:
            yield from copy_points(self._shard, fresh)
            fresh.flush()
            self._state.point_to(name, int(fresh.info().points_count))
            fresh, self._shard = self._shard, fresh
        finally:
            fresh.close()
            remove_leftovers(self._directory, self._state.shard)
        self._points = self._unbuilt = self.count()

    def count(self) -> int:
        return 0 if self._shard is None else int(self._shard.info().points_count)

    def unbuilt(self) -> int:
        return min(self._unbuilt, self.count())

    def disk_bytes(self) -> int:
        """Blocks, not lengths: storages reserve room in files with holes."""
        return sum(_blocks(Path(at, name)) for at, _, names in os.walk(self._directory) for name in names)

    def memory_bytes(self) -> int:
        """Pages of its files: the engine maps what it keeps, and says nothing of the little it allocates."""
        return mapped_bytes(self._directory)

    def contents(self, tenant: str, collection: str) -> Generator[Contents]:
        seen = Contents(0, 0)
        offset = None
        while self._shard is not None:
            records, offset = self._shard.scroll(
                qe.ScrollRequest(
                    offset=offset,
                    limit=_SEEN,
                    filter=of_collection(tenant, collection),
                    with_payload=["point_id", *INTEGERS],
                )
            )
            held = [record.payload or {} for record in records]
            total = sum(fingerprint(one["point_id"], extent(one)) for one in held)
            seen = Contents(seen.points + len(held), (seen.fingerprint + total) % 2**64)
            yield seen
            if offset is None:
                return

    def begin_build(self) -> Build | None:
        """Flushes, and remembers from now on which points are written."""
        unbuilt, points = self.unbuilt(), self.count()
        if self._shard is None or unbuilt <= max(self._options.build_above, _BUILT_SHARE * (points - unbuilt)):
            return None
        self._shard.flush()
        self._written, self._replayed = {}, 0
        return EdgeBuild(self, self._directory / self._state.shard, self._directory / fresh_name())

    def close(self) -> None:
        self._release()
        if self._shard is None:
            return
        if self._directory.exists():  # else somebody has removed it, and there is nothing to flush to
            self._shard.flush()
        self._shard.close()
        self._shard = None

    def serving(self) -> qe.EdgeShard:
        """The shard that holds the points. Raises Conflict where there is none yet."""
        if self._shard is None:
            raise Conflict("the index holds no points to close; rebuild the generation")
        return self._shard

    def written(self, most: int) -> list[qe.PointId]:
        """Takes up to `most` of the points written since the build began."""
        if self._written is None:
            return []
        taken = list(islice(self._written, most))
        for point in taken:
            del self._written[point]
        self._replayed += len(taken)
        return taken

    def adopt(self, name: str, shard: qe.EdgeShard) -> None:
        """Serve from a built shard that is up to date and durable."""
        self._state.point_to(name, self._replayed)
        replaced, self._shard = self.serving(), shard
        replaced.close()
        self._points, self._unbuilt = self.count(), self._replayed

    def end_build(self) -> None:
        """Remove what does not serve: a build given up, or the shard that was replaced."""
        self._written = None
        remove_leftovers(self._directory, self._state.shard)

    def _touch(self, points: Sequence[qe.PointId]) -> None:
        self._unbuilt += len(points)
        if self._written is not None:
            self._written.update(dict.fromkeys(points))

    def _shard_for(self, dimensions: int) -> qe.EdgeShard:
        if self._shard is None and self._state.dimensions in (None, dimensions):
            self._shard = create_shard(self._directory / self._state.shard, self.definition.funnel, dimensions)
        if self._state.dimensions is None:
            self._state.settle(dimensions)
        self._check_dimensions(dimensions)
        return self.serving()

    def _check_dimensions(self, dimensions: int) -> None:
        if dimensions != self._state.dimensions:
            raise InvalidRequest(f"the generation has {self._state.dimensions} dimensions, the vector {dimensions}")

    def _check_held(self, points: Sequence[qe.PointId]) -> None:
        held = {str(record.id) for record in self.serving().retrieve(list(points), False, False)}
        missing = len({str(point) for point in points} - held)
        if missing:
            raise Conflict(f"the index does not hold {missing} of the points to close; rebuild the generation")


def _blocks(path: Path) -> int:
    """Bytes on disk; 0 where a builder has just removed the file."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0
