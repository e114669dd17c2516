"""One generation: rows in files, postings for BM25, and what the engine adds for the dense stage.

A search sees the exact int64 columns first and chooses: the full vectors of few allowed rows are all compared, of many
the coarse index of the built rows chooses under a selector, full vectors rescore, and rows that are not built yet are
compared beside it.
"""

from __future__ import annotations

import os
import shutil
import uuid
import weakref
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from services.common.disk import bytes_under
from services.common.errors import Conflict, InvalidRequest
from services.common.nodes.retriever import Close, Contents, Point, Query, Target, Vectors, fingerprint
from services.retriever.backends.base import Build, Candidates
from services.retriever.backends.durable import own
from services.retriever.backends.residency import mapped_bytes
from services.retriever.backends.rows.build import COARSE, Built, RowsBuild, read_built, remove_built
from services.retriever.backends.rows.coarse import Coarse, Kind, normalized
from services.retriever.backends.rows.dense import DenseStage
from services.retriever.backends.rows.lexical import LexicalStage, terms_of
from services.retriever.backends.rows.postings import BuiltPostings, RecentPostings
from services.retriever.backends.rows.search import search
from services.retriever.backends.rows.segment import Segment, in_steps
from services.retriever.backends.rows.state import State


class RowsIndex:
    """One generation in `directory`: `state.json`, and the segment that it names."""

    def __init__(self, directory: Path, state: State, kind: Kind, exact_below: int, build_above: int) -> None:
        self.definition = state.definition()
        self._directory = directory
        self._state = state
        self._kind = kind
        self._exact_below = exact_below
        self._build_above = build_above
        self._segment: Segment | None = None
        self._coarse: Coarse | None = None
        self._postings: BuiltPostings | None = None
        self._recent = RecentPostings()
        self._release = weakref.finalize(self, os.close, own(directory))
        self._remove_leftovers()
        if state.dimensions is not None:
            self._open_segment(state.dimensions)

    def upsert(self, tenant: str, collection: str, points: Sequence[Point], vectors: Vectors) -> None:
        segment = self._segment_for(vectors.shape[1])
        terms = [terms_of(point.text) for point in points]
        first = segment.rows
        segment.append(tenant, collection, points, normalized(vectors), terms)
        for row, held in enumerate(terms, start=first):
            self._recent.add(row, held)

    def end(self, tenant: str, collection: str, closes: Sequence[Close]) -> None:
        ends = [(self._row(tenant, collection, close.point_id), close.recorded_to) for close in closes]
        if self._segment is not None:
            self._segment.end(ends)

    def search(self, asked: Sequence[tuple[Query, int]]) -> list[Candidates]:
        if self._segment is None:
            return [Candidates((), ()) for _ in asked]
        for query, _ in asked:
            if query.vector is not None:
                self._check_dimensions(len(query.vector))
        dense = DenseStage(self._segment, self.definition, self._coarse, self._exact_below)
        return search(self._segment, dense, LexicalStage(self._segment, self._postings, self._recent), asked)

    def commit(self, tenant: str, collection: str, watermark: int) -> None:
        self._save(watermarks={**self._state.watermarks, (tenant, collection): watermark})

    def watermark(self, tenant: str, collection: str) -> int:
        return self._state.watermark(tenant, collection)

    def watermarks(self) -> Mapping[tuple[str, str], int]:
        return dict(self._state.watermarks)

    def erase(self, tenant: str, collection: str, doc_id: str) -> int:
        if self._segment is None:
            return 0
        rows = self._segment.of_document((tenant, collection, Target.PASSAGES), doc_id)
        self._segment.kill(rows)
        self._save()
        return len(rows)

    def rewrite(self) -> Generator[bool]:
        if self._segment is None or self._state.dimensions is None:
            return
        name = f"segment-{uuid.uuid4().hex[:12]}"
        fresh = Segment(self._directory / name, self._state.dimensions, {}, self._segment.places)
        try:
            yield from self._segment.copy_to(fresh)
            fresh.sync()
            self._change(segment=name, built="", lengths=fresh.lengths(), places=list(fresh.places))
            fresh, self._segment = self._segment, fresh
            self._close_built()
            self._remember_terms(0)
        finally:
            fresh.close()
            self._remove_leftovers()

    def count(self) -> int:
        return self._segment.count() if self._segment else 0

    def unbuilt(self) -> int:
        return min(self.count(), self._rows() - self._built())

    def disk_bytes(self) -> int:
        return bytes_under(self._directory)

    def memory_bytes(self) -> int:
        """Pages of mapped files, the columns, and what the coarse index has read without mapping it."""
        columns = self._segment.allocated() if self._segment else 0
        return mapped_bytes(self._directory) + columns + (self._coarse.allocated if self._coarse else 0)

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
            return None
        return RowsBuild(self._segment, self._state.dimensions, self._state.built, self._kind, self._adopt)

    def close(self) -> None:
        self._release()
        self._close_built()
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def serving(self) -> Segment:
        """The rows. Raises Conflict where there are none yet."""
        if self._segment is None:
            raise Conflict("the index holds no points; rebuild the generation")
        return self._segment

    def _adopt(self, name: str, built: Built) -> None:
        self._save(built=name)
        replaced, self._coarse, self._postings = self._coarse, *built
        if replaced is not None:
            replaced.close()
        self._remember_terms(self._coarse.rows)
        self._remove_leftovers()

    def _close_built(self) -> None:
        if self._coarse is not None:
            self._coarse.close()
        self._coarse = self._postings = None

    def _pays(self) -> bool:
        built = self._built()
        return self._rows() - built > self._build_above + built * self._kind.unbuilt_share

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
        if state.built and (self._segment.directory / f"{state.built}{COARSE}").exists():
            self._coarse, self._postings = read_built(self._segment.directory, state.built, self._kind)
        self._remember_terms(self._built())

    def _remember_terms(self, first: int) -> None:
        """Of the rows from `first` on, which no build has."""
        self._recent = RecentPostings()
        for row in range(first, self._rows()):
            if self._segment is not None:
                self._recent.add(row, self._segment.terms(row))

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
        remove_built(current, self._state.built)
