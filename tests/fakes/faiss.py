"""Generations of the embedded backends, small enough for unit tests."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.common.moment import OPEN_END
from services.common.nodes.funnel import DEFAULT, Funnel
from services.retriever.backends.base import Definition, Index
from services.retriever.backends.edge.graph import EdgeKind
from services.retriever.backends.faiss.coarse import FaissKind
from services.retriever.backends.rows.builder import build
from services.retriever.backends.rows.coarse import Kind
from services.retriever.backends.rows.engine import RowsEngine
from tests.fakes.retriever import point, query

WIDTH = 16


def engine(home: Path, kind: str = "ivf") -> RowsEngine:
    """kind: of a FAISS index, or edge."""
    made: Kind = EdgeKind() if kind == "edge" else FaissKind(kind)
    return RowsEngine(home, made, exact_below=50, build_above=100)


def created(home: Path, kind: str = "ivf", funnel: Funnel = DEFAULT, basis: np.ndarray | None = None) -> Index:
    return engine(home, kind).create("g", Definition(funnel, basis))


def reopened(home: Path) -> Index:
    index = engine(home).open("g")
    assert index is not None
    return index


def clustered(count: int, seed: int = 1) -> np.ndarray:
    """Vectors around 40 centres, shape (count, WIDTH)."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(40, WIDTH))
    return (centres[random.integers(0, 40, count)] + 0.6 * random.normal(size=(count, WIDTH))).astype(np.float32)


def write(index: Index, vectors: np.ndarray, first: int = 0, tenant: str = "acme", step: int = 1) -> None:
    """Points p<first>, …, commited; the n-th is valid from n * step on."""
    points = [
        point(f"p{n}", valid=(n * step, OPEN_END), item_id=f"i{n}", parity=str(n % 2))
        for n in range(first, first + len(vectors))
    ]
    index.upsert(tenant, "notes", points, vectors)
    index.commit(tenant, "notes", 10 + first)


def built(index: Index) -> Index:
    build_ = index.begin_build()
    assert build_ is not None
    build(json.loads(build_.command[-1]))
    list(build_.adopt())
    build_.abandon()
    return index


def nearest(index: Index, vectors: np.ndarray, depth: int = 10, **asked: object) -> list[list[str]]:
    """The items of the dense stage, for each vector."""
    queries = [(query(vector=vector, **asked), depth) for vector in vectors]
    return [[found.item_id for found in each.dense] for each in index.search(queries)]


def truth(held: np.ndarray, allowed: Sequence[int], vector: np.ndarray, depth: int = 10) -> list[str]:
    cosines = held @ vector / np.linalg.norm(held, axis=1)
    return [f"i{n}" for n in sorted(allowed, key=lambda n: -cosines[n])[:depth]]
