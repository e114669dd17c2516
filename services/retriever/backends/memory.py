"""Exhaustive search with NumPy: nothing is durable, everything is exact. The oracle of the other backends."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from qdrant_edge import Bm25

from services.common.errors import Conflict, InvalidRequest
from services.common.moment import OPEN_START, Extent, Moment, Span
from services.common.nodes.retriever import Close, Contents, Point, Query, Stage, Target, fingerprint
from services.retriever.backends.base import Candidate, Candidates, Definition, Index
from services.retriever.settings import RetrieverSettings

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Row:
    item_id: str
    doc_id: str
    extent: Extent
    metadata: Mapping[str, str]
    vector: Floats
    terms: Mapping[int, float]


class _Table:
    """The rows of one searchable set as columns. A change makes a new table."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self.rows = rows
        self._edges = np.array([_edges(row.extent) for row in rows], dtype=np.int64).reshape(-1, 4)
        self._vectors = np.array([row.vector for row in rows], dtype=np.float32)
        self._postings = _postings(rows)

    def visible(self, moment: Moment, filters: Mapping[str, Sequence[str]]) -> Places:
        valid_from, valid_to, recorded_from, recorded_to = self._edges.T
        valid = (valid_from <= moment.as_of) & (moment.as_of < valid_to)
        recorded = (recorded_from <= moment.known_at) & (moment.known_at < recorded_to)
        places = np.flatnonzero(valid & recorded)
        passing = [place for place in places.tolist() if _passes(self.rows[place].metadata, filters)]
        return np.array(passing, dtype=np.intp)

    def cosines(self, vector: Floats, visible: Places) -> list[tuple[int, float]]:
        scores = self._vectors[visible] @ _normalized(vector[np.newaxis])[0]
        return list(zip(visible.tolist(), scores.tolist(), strict=True))

    def bm25(self, terms: Iterable[int], visible: Places) -> list[tuple[int, float]]:
        """Robertson–Spärck Jones weights over the visible rows, as the engine's IDF modifier has them."""
        seen = np.zeros(len(self.rows), dtype=bool)
        seen[visible] = True
        scores = np.zeros(len(self.rows))
        for term in terms:
            places, weights = self._postings.get(term, _NOWHERE)
            within = seen[places]
            found = int(within.sum())
            rarity = math.log((len(visible) - found + 0.5) / (found + 0.5) + 1)
            scores[places[within]] += rarity * weights[within]
        return [(int(place), float(scores[place])) for place in np.flatnonzero(scores)]


_NOWHERE: tuple[Places, npt.NDArray[np.float64]] = (np.empty(0, dtype=np.intp), np.empty(0))


def _edges(extent: Extent) -> tuple[int, int, int, int]:
    return extent.valid.start, extent.valid.end, extent.recorded.start, extent.recorded.end


def _postings(rows: Sequence[_Row]) -> dict[int, tuple[Places, npt.NDArray[np.float64]]]:
    gathered: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for place, row in enumerate(rows):
        for term, weight in row.terms.items():
            gathered[term].append((place, weight))
    return {
        term: (np.array([place for place, _ in pairs], dtype=np.intp), np.array([weight for _, weight in pairs]))
        for term, pairs in gathered.items()
    }


def _passes(metadata: Mapping[str, str], filters: Mapping[str, Sequence[str]]) -> bool:
    return all(metadata.get(key) in values for key, values in filters.items())


def _normalized(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), dtype=np.float32)


class MemoryIndex:
    """One generation, gone with the process."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self._rows: dict[tuple[str, str], dict[str, tuple[Target, _Row]]] = defaultdict(dict)
        self._tables: dict[tuple[str, str, Target], _Table] = {}
        self._watermarks: dict[tuple[str, str], int] = {}
        self._dimensions: int | None = None
        self._bm25 = Bm25()

    def upsert(self, tenant: str, collection: str, points: Sequence[Point], vectors: Floats) -> None:
        self._dimensions = self._dimensions or vectors.shape[1]
        self._check_dimensions(vectors.shape[1])
        for point, vector in zip(points, _normalized(vectors), strict=True):
            sparse = self._bm25.embed_document(point.text)
            terms = dict(zip(sparse.indices, sparse.values, strict=True))
            row = _Row(point.item_id, point.doc_id, point.extent, dict(point.metadata), vector, terms)
            self._rows[tenant, collection][point.point_id] = (point.target, row)
        self._forget_tables(tenant, collection)

    def end(self, tenant: str, collection: str, closes: Sequence[Close]) -> None:
        rows = self._rows[tenant, collection]
        for close in closes:
            if close.point_id not in rows:
                raise Conflict(f"the index holds no point {close.point_id!r} to close; rebuild the generation")
            target, row = rows[close.point_id]
            recorded = Span(row.extent.recorded.start, close.recorded_to)
            rows[close.point_id] = (target, replace(row, extent=Extent(row.extent.valid, recorded)))
        self._forget_tables(tenant, collection)

    def search(self, asked: Sequence[tuple[Query, int]]) -> list[Candidates]:
        return [self._search(query, depth) for query, depth in asked]

    def _search(self, query: Query, depth: int) -> Candidates:
        began = time.perf_counter()
        table = self._table(query.scope.tenant, query.scope.collection, query.target)
        visible = table.visible(query.scope.moment, query.filters)
        dense: list[tuple[int, float]] = []
        if query.vector is not None and len(visible):
            self._check_dimensions(len(query.vector))
            dense = table.cosines(query.vector, visible)
        between = time.perf_counter()
        lexical = table.bm25(self._bm25.embed_query(query.text).indices, visible) if query.text else []
        passing, points = len(visible), len(table.rows)
        plan = (
            Stage("dense", "exact", passing, points, (between - began) * 1000),
            Stage("lexical", "postings", passing, points, (time.perf_counter() - between) * 1000),
        )
        return Candidates(_best(table, dense, query, depth), _best(table, lexical, query, depth), plan)

    def commit(self, tenant: str, collection: str, watermark: int) -> None:
        self._watermarks[tenant, collection] = watermark

    def watermark(self, tenant: str, collection: str) -> int:
        return self._watermarks.get((tenant, collection), OPEN_START)

    def watermarks(self) -> Mapping[tuple[str, str], int]:
        return dict(self._watermarks)

    def erase(self, tenant: str, collection: str, doc_id: str) -> int:
        held = self._rows[tenant, collection]
        kept = {
            point_id: (target, row)
            for point_id, (target, row) in held.items()
            if target is not Target.PASSAGES or row.doc_id != doc_id
        }
        self._rows[tenant, collection] = kept
        self._forget_tables(tenant, collection)
        return len(held) - len(kept)

    def rewrite(self) -> Generator[bool]:
        """Nothing outlives its deletion here."""
        yield from ()

    def count(self) -> int:
        return sum(len(rows) for rows in self._rows.values())

    def unbuilt(self) -> int:
        return 0

    def disk_bytes(self) -> int:
        return 0

    def memory_bytes(self) -> int:
        return 0

    def contents(self, tenant: str, collection: str) -> Generator[Contents]:
        rows = self._rows.get((tenant, collection), {})
        total = sum(fingerprint(point_id, row.extent) for point_id, (_, row) in rows.items())
        yield Contents(len(rows), total % 2**64)

    def begin_build(self) -> None:
        """There is nothing to build here: every search is exhaustive, whatever the funnel."""

    def close(self) -> None:
        pass

    def _check_dimensions(self, dimensions: int) -> None:
        if dimensions != self._dimensions:
            raise InvalidRequest(f"the generation has {self._dimensions} dimensions, the vector {dimensions}")

    def _table(self, tenant: str, collection: str, target: Target) -> _Table:
        key = (tenant, collection, target)
        if key not in self._tables:
            held = self._rows.get((tenant, collection), {})
            self._tables[key] = _Table([row for kind, row in held.values() if kind is target])
        return self._tables[key]

    def _forget_tables(self, tenant: str, collection: str) -> None:
        for target in Target:
            self._tables.pop((tenant, collection, target), None)


def _best(table: _Table, scored: Sequence[tuple[int, float]], query: Query, depth: int) -> list[Candidate]:
    """The best `depth` items, an item by its best point."""
    best: dict[str, Candidate] = {}
    for place, score in sorted(scored, key=lambda pair: (-pair[1], table.rows[pair[0]].item_id)):
        row = table.rows[place]
        if len(best) < depth and row.item_id not in best:
            best[row.item_id] = Candidate(
                row.item_id, row.doc_id, query.scope.tenant, query.scope.collection, row.extent, score
            )
    return list(best.values())


def engine(settings: RetrieverSettings) -> MemoryEngine:
    return MemoryEngine()


class MemoryEngine:
    """Generations that live as long as the engine."""

    def __init__(self) -> None:
        self._indexes: dict[str, MemoryIndex] = {}

    def open(self, generation: str) -> Index | None:
        return self._indexes.get(generation)

    def create(self, generation: str, definition: Definition) -> Index:
        return self._indexes.setdefault(generation, MemoryIndex(definition))

    def drop(self, generation: str) -> None:
        self._indexes.pop(generation, None)

    def replace(self, generation: str, by: str) -> Index:
        self._indexes[generation] = self._indexes.pop(by)
        return self._indexes[generation]
