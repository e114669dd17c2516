"""The index that `funnel` measures: clustered vectors with random extents, one large tenant beside many small ones.

It is kept twice: when the large tenant has a tenth of its points, and when it has all of them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np

from benchmarks.common import ROOT, Figures
from services.common.moment import OPEN_END, Extent, Moment, Span
from services.common.nodes.funnel import DEFAULT
from services.common.nodes.retriever import Point, Query, Target, Vectors
from services.common.nodes.scope import Scope
from services.retriever.backends import open_engine
from services.retriever.backends.base import Build, Definition, Index
from services.retriever.backends.rows.index import RowsIndex
from services.retriever.settings import RetrieverSettings

DIMENSIONS, CLUSTERS, SPREAD = 384, 1_000, 0.6
"""Harder for one-bit codes than real passages are: of the ten best, 57 % are among the 40 nearest codes (exhaustively,
200,000 vectors); of SciFact's 9,897 passages with MiniLM's vectors, 87 %."""
LARGE, SMALL, COLLECTION, GENERATION = "large", "small-{}", "notes", "g1"
SMALL_POINTS = 20
SLICE = 256
"""Points in one engine call, as the retriever's."""
SHARES = {"100": 1.0, "25": 0.25, "1": 0.01, "0_01": 0.0001}
"""Of the points, those that are visible."""
TICKS = 1_000_000
"""Record times; at known_at = share * TICKS that share of the points is visible."""
DEPTH = 10
TENTH, WHOLE = "tenth", "whole"
_FIGURES = "figures.json"
_ASKED_AT_ONCE = 20
"""Searches between two looks at the builder, which wants the processor too."""


@dataclass(frozen=True)
class Corpus:
    vectors: Vectors
    known_from: np.ndarray

    def points(self, tenant: str, start: int, end: int) -> list[Point]:
        random = np.random.default_rng(start)
        valid = random.integers(1, TICKS, size=(end - start, 2))
        return [
            Point(
                f"{tenant}-{number}",
                Target.PASSAGES,
                f"{tenant}-{number}",
                f"{tenant}-{number // 4}",
                Extent(Span(-int(before), int(after)), Span(int(self.known_from[number]), OPEN_END)),
                f"word{number % 997} passage",
                {},
            )
            for number, (before, after) in zip(range(start, end), valid.tolist(), strict=True)
        ]


def corpus(points: int) -> Corpus:
    random = np.random.default_rng(7)
    centres = random.standard_normal((CLUSTERS, DIMENSIONS), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = centres[random.integers(CLUSTERS, size=points)]
    vectors += SPREAD / np.sqrt(DIMENSIONS) * random.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Corpus(vectors, random.permutation(points) * TICKS // points + 1)


def queries(held: Corpus, count: int) -> Vectors:
    random = np.random.default_rng(11)
    near = held.vectors[random.integers(len(held.vectors), size=count)]
    near = near + SPREAD / np.sqrt(DIMENSIONS) * random.standard_normal(near.shape, dtype=np.float32)
    asked: Vectors = near / np.linalg.norm(near, axis=1, keepdims=True)
    return asked


def query(vector: Vectors | None, share: float = 1.0, tenant: str = LARGE, text: str = "") -> Query:
    moment = Moment(0, round(share * TICKS))
    return Query(Scope(tenant, COLLECTION, GENERATION, moment), Target.PASSAGES, text, vector, DEPTH)


def settings(home: Path, backend: str) -> RetrieverSettings:
    return RetrieverSettings(home=home, retriever_backend=backend, retriever_build_above=1_000)


def made(home: Path, backend: str, held: Corpus, tenants: int, asked: Vectors) -> Figures:
    """Both indexes in `home`, and what making them took; those that lie there are left as they are."""
    if not (home / _FIGURES).exists():
        for part in (TENTH, WHOLE):
            shutil.rmtree(home / part, ignore_errors=True)
        figures = _make(home, backend, held, tenants, asked)
        (home / _FIGURES).write_text(json.dumps(figures))
    kept: Figures = json.loads((home / _FIGURES).read_text())
    return kept


def opened(home: Path, backend: str) -> RowsIndex:
    index = open_engine(settings(home, backend)).open(GENERATION)
    assert isinstance(index, RowsIndex)
    return index


def times(index: Index, asked: Vectors, share: float = 1.0) -> list[float]:
    """Milliseconds of each search."""
    return [timed(partial(index.search, [(query(vector, share), DEPTH)])) for vector in asked]


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _make(home: Path, backend: str, held: Corpus, tenants: int, asked: Vectors) -> Figures:
    points = len(held.vectors)
    index = open_engine(settings(home / WHOLE, backend)).create(GENERATION, Definition(DEFAULT))
    for number in range(tenants):
        _write(index, SMALL.format(number), held, 0, SMALL_POINTS)
    _write(index, LARGE, held, 0, points // 10)
    _built(index)
    shutil.copytree(home / WHOLE, home / TENTH)
    written = _write(index, LARGE, held, points // 10, points)
    figures = {"points_per_second_written": round(0.9 * points / written), **_built(index, asked)}
    index.commit(LARGE, COLLECTION, TICKS)
    index.close()
    return figures


def _write(index: Index, tenant: str, held: Corpus, start: int, end: int) -> float:
    """Seconds."""
    began = time.perf_counter()
    for at in range(start, end, SLICE):
        until = min(at + SLICE, end)
        index.upsert(tenant, COLLECTION, held.points(tenant, at, until), held.vectors[at:until])
    if tenant == LARGE:
        index.commit(tenant, COLLECTION, TICKS)
    return time.perf_counter() - began


def _built(index: Index, asked: Vectors | None = None) -> Figures:
    """Build as the retriever does; how long it took, and how long its steps held reads and writes."""
    build = index.begin_build()
    if build is None:
        return {"build_seconds": 0.0}
    copied = _steps(build.prepare())
    idle = times(index, asked) if asked is not None else [0.0]
    began = time.perf_counter()
    during = _beside(build, index, asked)
    seconds = time.perf_counter() - began
    adopted = _steps(build.adopt())
    cleared = timed(build.abandon)
    return {
        "build_seconds": round(seconds, 1),
        "writes_blocked_ms": round(sum(copied)),
        "reads_blocked_ms": round(max([*copied, *adopted, cleared], default=0.0)),
        "adopt_ms": [round(step) for step in adopted],
        "p95_during_build_ratio": round(_p95(during) / _p95(idle), 2) if during and asked is not None else None,
    }


def _beside(build: Build, index: Index, asked: Vectors | None) -> list[float]:
    """Run the builder, searching meanwhile; milliseconds of each search."""
    process = subprocess.Popen([sys.executable, *build.command], cwd=ROOT)
    took: list[float] = []
    waiting = Thread(target=process.wait)
    waiting.start()
    while waiting.is_alive():
        took += times(index, asked[:_ASKED_AT_ONCE]) if asked is not None else []
        waiting.join(0.2)
    if process.returncode:
        raise RuntimeError(f"the builder ended with {process.returncode}")
    return took


def _steps(steps: Iterator[bool]) -> list[float]:
    """Milliseconds of each step."""
    took = []
    while True:
        began = time.perf_counter()
        more = next(steps, None)
        took.append((time.perf_counter() - began) * 1000)
        if more is None:
            return took


def _p95(took: Sequence[float]) -> float:
    return float(np.percentile(took, 95))
