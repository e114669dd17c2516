"""The coarse index of the built rows: what kinds there are, how one is made, and how the allowed rows are searched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np

from services.common.errors import InvalidRequest, Unavailable
from services.common.nodes.funnel import Quantization
from services.common.nodes.retriever import Vectors
from services.retriever.backends.base import Definition
from services.retriever.backends.rows.bits import Bits
from services.retriever.backends.rows.coarse import projected
from services.retriever.backends.rows.lookup import Rows

KINDS = ("flat", "ivf", "hnsw")
METHODS = {"flat": "codes", "ivf": "lists", "hnsw": "graph"}
_CODES = {Quantization.NONE: "Flat", Quantization.INT8: "SQ8", Quantization.BINARY: "RaBitQ"}
"""RaBitQ (Gao and Long, SIGMOD 2024): one bit a dimension and eight bytes a vector."""
_GRAPH = {Quantization.NONE: "HNSW16,Flat", Quantization.INT8: "HNSW16,SQ8", Quantization.BINARY: "HNSW16,SQ4"}

_PROBED = 32
"""Lists looked through when every row is allowed: recall@10 of 1.0 at 200,000 × 384, 1,024 lists of 195 rows."""
_WIDER = 0.4
"""When s times fewer rows are allowed, s to this power times more lists, which keeps the recall: of SciFact's passages
0.986 when all are allowed, 0.983 to 0.991 from 50 % down to 3 %; of the 200,000 0.986 at least. With √s, 1 % takes 1.4
times as long for 0.998 instead of 0.991, with s 2.5 times."""
_ROWS_A_LIST = 195
"""As many as these were measured with. Where a list has more, as many of the rows that lie as near as the nearest
allowed ones are in fewer lists: of 1,000,000 rows, 488 a list, 128 lists have 0.9995 at 1 %."""
_EF = 256
_GRAPH_SHARE = 0.1
"""The share of allowed rows below which a graph loses its way: recall@10 of 1.0 at 25 %, of 0.43 at 1 %."""
_TRAINED_ON = 64
"""Vectors a list is trained on, of FAISS' 39 at least and 256 at most."""
_BLOCK = 16_384


def check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidRequest(f"no FAISS index is called {kind!r}; choose one of {', '.join(KINDS)}")


def make(kind: str, definition: Definition, vectors: Vectors, seed: int = 0) -> Any:
    """An index of the vectors (shape (n, dimensions), read in blocks), its ids their rows.

    Distances are Euclidean: of vectors of length one they order as cosines do, and RaBitQ estimates them better.
    """
    funnel = definition.funnel
    count, lists = len(vectors), best_lists(len(vectors))
    coarse = {"flat": "", "ivf": f"IVF{lists},", "hnsw": ""}[kind]
    codes = (_GRAPH if kind == "hnsw" else _CODES)[funnel.quantization]
    index = faiss.index_factory(funnel.dimensions or vectors.shape[1], coarse + codes, faiss.METRIC_L2)
    sample = np.sort(np.random.default_rng(seed).permutation(count)[: lists * _TRAINED_ON])
    if not index.is_trained:
        index.train(projected(vectors[sample], definition))
    extend(index, definition, vectors)
    return index


def extend(index: Any, definition: Definition, vectors: Vectors) -> None:
    """Add the vectors beyond those that the index holds."""
    for start in range(int(index.ntotal), len(vectors), _BLOCK):
        index.add(projected(vectors[start : start + _BLOCK], definition))


def best_lists(count: int) -> int:
    """A power of two of about 2 √n, which makes finding the lists and looking through them cost alike."""
    return int(2 ** max(0, round(math.log2(2 * math.sqrt(max(1, count))))))


def on_device(index: Any, device: str) -> Any:
    """The index itself, or its copy on the first GPU. Raises Unavailable where the index cannot go there."""
    if device == "cpu":
        return index
    try:
        resources = faiss.StandardGpuResources()
        return faiss.index_cpu_to_gpu(resources, 0, index)
    except (AttributeError, RuntimeError) as error:
        raise Unavailable(
            f"FAISS cannot put a {type(index).__name__} on a GPU; install faiss-gpu-cuvs and choose a kind and a "
            f"quantization it has there, or set ALMANAC_RETRIEVER_FAISS_DEVICE=cpu ({str(error)[-200:]})"
        ) from error


def write(path: Path, previous: Path | None, definition: Definition, vectors: Vectors, option: str) -> None:
    """What the builder process calls. option: the kind."""
    index = _extended(previous, definition, vectors) or make(option, definition, vectors)
    faiss.write_index(index, str(path))


def _extended(previous: Path | None, definition: Definition, vectors: Vectors) -> Any:
    """The previous index with the rows that came since, None where so many rows want more lists."""
    if previous is None:
        return None
    index = faiss.read_index(str(previous))
    lists = getattr(index, "nlist", None)
    if lists is not None and lists < best_lists(len(vectors)):
        return None
    extend(index, definition, vectors)
    return index


@dataclass(frozen=True, slots=True)
class FaissKind:
    """option: flat, ivf or hnsw. device: cpu or gpu."""

    option: str = "ivf"
    device: str = "cpu"
    name: str = "faiss"
    module: str = __name__
    unbuilt_share: float = 1 / 64
    """Adding rows to an index is cheap, comparing 8,000 of them with every query takes 3 ms."""

    def read(self, path: Path) -> Codes:
        return Codes.read(path, self.option, self.device)


class Codes:
    """A built index, its ids rows [0, rows)."""

    def __init__(self, index: Any, kind: str, allocated: int = 0) -> None:
        self._index = index
        self._kind = kind
        self.allocated = allocated
        self.rows = int(index.ntotal)
        self._lists = int(getattr(index, "nlist", 1))

    @classmethod
    def read(cls, path: Path, kind: str, device: str = "cpu") -> Self:
        """Onto the device. Searches take one thread each: on busy cores threads wait."""
        faiss.omp_set_num_threads(1)
        return cls(on_device(faiss.read_index(str(path)), device), kind, path.stat().st_size)

    def method(self, passing: int) -> str:
        return "exact" if self._kind == "hnsw" and passing < _GRAPH_SHARE * self.rows else METHODS[self._kind]

    def search(self, vectors: Vectors, allowed: Bits, wanted: int) -> tuple[Rows, Vectors]:
        """For each vector (length one, shape (n, coarse dimensions)) the ids of the `wanted` best allowed rows, or as
        many as there are, and their cosines by their codes; both of shape (n, wanted), ids of -1 at the end of short
        rows. allowed: one at least."""
        passing = len(allowed)
        selector = faiss.IDSelectorBitmap(allowed.packed)
        enough = min(wanted, passing)
        probed = min(self._lists, math.ceil(_PROBED * self._spread(passing) ** _WIDER))
        distances, ids = self._index.search(vectors, wanted, params=self._parameters(selector, probed, wanted))
        if probed < self._lists and (ids[:, enough - 1] < 0).any():
            parameters = self._parameters(selector, self._lists, wanted)
            distances, ids = self._index.search(vectors, wanted, params=parameters)
        return ids, np.asarray(1 - distances / 2, np.float32)

    def _spread(self, passing: int) -> float:
        """How many times more lists' rows lie as near as the nearest of so many."""
        return max(1.0, self.rows / passing * min(1.0, _ROWS_A_LIST * self._lists / self.rows))

    def close(self) -> None:
        """Memory goes with the object."""

    def _parameters(self, selector: Any, probed: int, wanted: int) -> Any:
        if self._kind == "hnsw":
            return faiss.SearchParametersHNSW(sel=selector, efSearch=max(_EF, 2 * wanted))
        if self._kind == "flat":
            return faiss.SearchParameters(sel=selector)
        if isinstance(self._index, faiss.IndexIVFRaBitQ):
            return faiss.IVFRaBitQSearchParameters(sel=selector, nprobe=probed)
        return faiss.SearchParametersIVF(sel=selector, nprobe=probed)
