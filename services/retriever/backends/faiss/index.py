"""One generation: FAISS for the dense stage, Qdrant Edge for BM25, and what makes both one index.

A search sees the exact int64 columns first and chooses: the full vectors of few allowed rows are all compared, of many
the coarse index of the built rows chooses under a selector, full vectors rescore, and rows that are not built yet are
compared beside it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from services.common.errors import Conflict, InvalidRequest
from services.common.nodes.retriever import Close, Contents, Point, Query, Target, Vectors, fingerprint
from services.retriever.backends.base import Build, Candidates, Index
from services.retriever.backends.faiss.build import FaissBuild
from services.retriever.backends.faiss.coarse import Coarse, normalized
from services.retriever.backends.faiss.dense import DenseStage, Searched
from services.retriever.backends.faiss.options import Options
from services.retriever.backends.faiss.segment import Segment, in_steps
from services.retriever.backends.faiss.state import State

_DELTA_SHARE = 64
"""One in so many of the built rows may lie unbuilt beside `build_above`: adding rows to an index is cheap, comparing
8,000 of them with every query takes 3 ms."""


class FaissIndex:
    """One generation in `directory`: `faiss.json`, the segment that it names, and `lexical/` with the BM25 index."""

    def __init__(self, directory: Path, state: State, lexical: Index, options: Options) -> None:
        self.definition = state.definition()
        self._directory = directory
        self._state = state
        self._lexical = lexical
        self._options = options
        self._segment: Segment | None = None
        self._coarse: Coarse | None = None
        self._remove_leftovers()
        if state.dimensions is not None:
            self._open_segment(state.dimensions)

    def upsert(self, tenant: str, collection: str, points: Sequence[Point], vectors: Vectors) -> None:
        segment = self._segment_for(vectors.shape[1])
        self._lexical.upsert(tenant, collection, points, vectors)
        segment.append(tenant, collection, points, normalized(vectors))

    def end(self, tenant: str, collection: str, closes: Sequence[Close]) -> None:
        ends = [(self._row(tenant, collection, close.point_id), close.recorded_to) for close in closes]
        self._lexical.end(tenant, collection, closes)
        if self._segment is not None:
            self._segment.end(ends)

    def search(self, asked: Sequence[tuple[Query, int]]) -> list[Candidates]:
        lexical = self._lexical.search([(replace(query, vector=None), depth) for query, depth in asked])
        if self._segment is None:
            return lexical
        with_vector = [at for at, (query, _) in enumerate(asked) if query.vector is not None]
        for at in with_vector:
            self._check_dimensions(_width(asked[at][0]))
        stage = DenseStage(self._segment, self.definition, self._coarse, self._options.exact_below)
        dense = dict(zip(with_vector, stage.search([asked[at] for at in with_vector]), strict=True))
        return [_both(dense.get(at), found) for at, found in enumerate(lexical)]

    def commit(self, tenant: str, collection: str, watermark: int) -> None:
        self._lexical.commit(tenant, collection, watermark)
        self._save(watermarks={**self._state.watermarks, (tenant, collection): watermark})

    def watermark(self, tenant: str, collection: str) -> int:
        return self._state.watermark(tenant, collection)

    def watermarks(self) -> Mapping[tuple[str, str], int]:
        return dict(self._state.watermarks)

    def erase(self, tenant: str, collection: str, doc_id: str) -> int:
        self._lexical.erase(tenant, collection, doc_id)
        if self._segment is None:
            return 0
        rows = self._segment.of_document((tenant, collection, Target.PASSAGES), doc_id)
        self._segment.kill(rows)
        self._save()
        return len(rows)

    def rewrite(self) -> Generator[bool]:
        yield from self._lexical.rewrite()
        if self._segment is None or self._state.dimensions is None:
            return
        name = f"segment-{uuid.uuid4().hex[:12]}"
        fresh = Segment(self._directory / name, self._state.dimensions, {}, self._segment.places)
        try:
            yield from self._segment.copy_to(fresh)
            fresh.sync()
            self._change(segment=name, built="", lengths=fresh.lengths(), places=list(fresh.places))
            fresh, self._segment = self._segment, fresh
            self._coarse = None
        finally:
            fresh.close()
            self._remove_leftovers()

    def count(self) -> int:
        return self._segment.count() if self._segment else 0

    def unbuilt(self) -> int:
        return min(self.count(), self._rows() - self._built())

    def disk_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._directory.rglob("*") if path.is_file())

    def contents(self, tenant: str, collection: str) -> Generator[Contents]:
        points, total = 0, 0
        yield Contents(points, total)
        for target in Target:
            place = (tenant, collection, target)
            for rows in in_steps(self._segment.living(place)) if self._segment else ():
                held = [self._segment.point(row, target) for row in rows.tolist()] if self._segment else []
                points += len(held)
                total = (total + sum(fingerprint(one.point_id, one.extent) for one in held)) % 2**64
                yield Contents(points, total)

    def begin_build(self) -> Build | None:
        if self._segment is None or self._state.dimensions is None or not self._pays():
            return self._lexical.begin_build()
        previous = self._segment.directory / self._state.built if self._state.built else None
        return FaissBuild(self._segment, self._state.dimensions, previous, self._options, self._adopt)

    def close(self) -> None:
        self._lexical.close()
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _adopt(self, name: str, coarse: Coarse) -> None:
        self._save(built=name)
        self._coarse = coarse
        self._remove_leftovers()

    def _pays(self) -> bool:
        built = self._built()
        return self._rows() - built > self._options.build_above + built // _DELTA_SHARE

    def _rows(self) -> int:
        return self._segment.rows if self._segment else 0

    def _built(self) -> int:
        return self._coarse.rows if self._coarse else 0

    def _segment_for(self, dimensions: int) -> Segment:
        if self._state.dimensions is None:
            self._change(dimensions=dimensions)
            self._open_segment(dimensions)
        self._check_dimensions(dimensions)
        assert self._segment is not None
        return self._segment

    def _open_segment(self, dimensions: int) -> None:
        state = self._state
        self._segment = Segment(self._directory / state.segment, dimensions, state.lengths, state.places)
        path = self._segment.directory / state.built
        if state.built and path.exists():
            self._coarse = Coarse.read(path, self._options)

    def _check_dimensions(self, dimensions: int) -> None:
        if dimensions != self._state.dimensions:
            raise InvalidRequest(f"the generation has {self._state.dimensions} dimensions, the vector {dimensions}")

    def _row(self, tenant: str, collection: str, point_id: str) -> int:
        row = self._segment.find(tenant, collection, point_id) if self._segment else None
        if row is None:
            raise Conflict(f"the index holds no point {point_id!r} to close; rebuild the generation")
        return row

    def _save(self, **changed: object) -> None:
        """Make the segment's files durable, and only then what counts of them."""
        if self._segment is not None:
            self._segment.sync()
            changed = {"lengths": self._segment.lengths(), "places": list(self._segment.places), **changed}
        self._change(**changed)

    def _change(self, **changed: object) -> None:
        """Written first and then remembered."""
        state = replace(self._state, **changed)  # type: ignore[arg-type]
        state.save()
        self._state = state

    def _remove_leftovers(self) -> None:
        """Remove the segments and indexes that are not the current ones: of a killed rewrite or build, or replaced."""
        current = self._directory / self._state.segment
        for path in self._directory.glob("segment*"):
            if path != current:
                shutil.rmtree(path, ignore_errors=True)
        for path in current.glob("index*"):
            if path.name != self._state.built:
                path.unlink(missing_ok=True)


def _both(dense: Searched | None, lexical: Candidates) -> Candidates:
    if dense is None:
        return lexical
    candidates, stage = dense
    return Candidates(candidates, lexical.lexical, (stage, *lexical.plan))


def _width(query: Query) -> int:
    return 0 if query.vector is None else len(query.vector)
