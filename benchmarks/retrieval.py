"""Retrieval on SciFact: what each stage and each funnel finds, what it costs in bytes and in time.

Passages by the real chunker, vectors by the default encoder, ranked through the retriever in process, its engine and
builder as they are served; a document ranks where its best passage does. One generation per funnel. The modes take
turns query by query, so that a machine that gets slower meanwhile slows all; `latency` is a mode's median over that of
`fused full`. nDCG@10 and recall@10 are of searches for 100 passages, recall@100 of others for 300, which are not timed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import scifact
from benchmarks.common import Figures, parser, publish
from benchmarks.footprint import on_disk, resident
from benchmarks.scifact import SciFact
from pipelines.evaluation import Targets
from pipelines.evaluation.retrieval import retrieval_figures
from pipelines.rotate import fit
from services.common.logging import configure
from services.common.nodes.funnel import DEFAULT, PLAIN, Funnel, Quantization, Rotation
from services.common.nodes.retriever import Changes, Hit, Query, Target
from services.retriever.retriever import IndexRetriever, build
from services.retriever.settings import RetrieverSettings

TARGETS: Targets = {"ndcg@10": {"min": 0.73}}
FULL = "fused full"
DEFAULT_NAME = "binary rescored"
"""What the default funnel is called in the table."""
_TIMED, _DEEP = 100, 300
_COARSE: Mapping[str, Funnel] = {
    "cut 128": Funnel(dimensions=128),
    "cut 64": Funnel(dimensions=64),
    "rotated 128": Funnel(dimensions=128, rotation=Rotation.PCA),
    "rotated 64": Funnel(dimensions=64, rotation=Rotation.PCA),
    "int8": Funnel(quantization=Quantization.INT8),
    "binary": Funnel(quantization=Quantization.BINARY),
}
_BUILD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Mode:
    """One row of the table: a funnel, and which of the stages are asked."""

    name: str
    generation: str
    dense: bool = True
    lexical: bool = True


def funnels(chosen: Iterable[str]) -> dict[str, Funnel]:
    """A generation's name → its funnel: the full one, the default and each coarse one, to be rescored."""
    found = {"full": PLAIN, **{f"{name} rescored": _COARSE[name] for name in chosen}, DEFAULT_NAME: DEFAULT}
    return {name.replace(" ", "-"): funnel for name, funnel in found.items()}


def modes(generations: Iterable[str]) -> list[Mode]:
    """The rows; of a coarse generation also those of its twin that is not rescored."""
    rows = [Mode("dense full", "full", lexical=False), Mode("bm25", "full", dense=False), Mode(FULL, "full")]
    for generation in generations:
        for name in (generation, _twin(generation)) if generation != "full" else ():
            words = name.replace("-", " ")
            rows += [Mode(f"dense {words}", name, lexical=False), Mode(f"fused {words}", name)]
    return rows


def _twin(generation: str) -> str:
    return generation.replace("-rescored", "-alone")


def measure(documents: int | None, chosen: Sequence[str]) -> Figures:
    """Everything the report tells. Raises MissingData."""
    data = scifact.load(documents)
    with tempfile.TemporaryDirectory(prefix="almanac-retrieval-") as home:
        settings = RetrieverSettings(home=Path(home))
        table = asyncio.run(_measured(data, settings, funnels(chosen)))
        sizes = {name: _bytes(data, settings, name) for name in funnels(chosen)}
    default = next(row for row in table if row["mode"] == f"fused {DEFAULT_NAME}")
    return {
        "passages": len(data.passages),
        "documents": len({one.doc_id for one in data.passages}),
        "queries": len(data.queries),
        "default": default["mode"],
        "ndcg@10": default["ndcg@10"],
        "table": table,
        "bytes_per_passage": [{"generation": name, **split} for name, split in sizes.items()],
    }


async def _measured(data: SciFact, settings: RetrieverSettings, all_of_them: Mapping[str, Funnel]) -> list[Figures]:
    async with _open(settings) as retriever:
        seconds = {name: await _filled(retriever, name, funnel, data) for name, funnel in all_of_them.items()}
        for name, funnel in all_of_them.items():
            if funnel.coarse:
                _copy_unrescored(settings.home / "index", name, funnel)
        rows = modes(all_of_them)
        shallow, times, methods = await _searched(retriever, rows, data, _TIMED)
        deep, _, _ = await _searched(retriever, rows, data, _DEEP)
    full = statistics.median(times[FULL])
    return [
        {
            "mode": mode.name,
            **_judged(shallow[mode.name], deep[mode.name], data),
            "latency": round(statistics.median(times[mode.name]) / full, 2),
            "ms": round(statistics.median(times[mode.name]), 2),
            "methods": methods[mode.name],
            "build_s": round(seconds.get(mode.generation, 0.0), 1),
        }
        for mode in rows
    ]


@asynccontextmanager
async def _open(settings: RetrieverSettings) -> AsyncIterator[IndexRetriever]:
    retriever = build(settings)
    try:
        yield retriever
    finally:
        await retriever.close()


async def _filled(retriever: IndexRetriever, name: str, funnel: Funnel, data: SciFact) -> float:
    """Define the generation, apply everything to it and wait until it is built. Returns the seconds of it."""
    began = time.perf_counter()
    rotated = funnel.rotation is not Rotation.NONE
    await retriever.define(name, funnel, fit(data.passage_vectors, funnel.dimensions) if rotated else None)
    await retriever.apply(name, scifact.stretch(), _each(data.changes()))
    while time.perf_counter() - began < _BUILD_SECONDS:
        await asyncio.sleep(0.5)
        standing = await retriever.standing(name)
        if standing is None or not standing.building:
            break
    print(f"{name}: {time.perf_counter() - began:.1f} s, {standing}", file=sys.stderr)
    return time.perf_counter() - began


def _copy_unrescored(indexes: Path, name: str, funnel: Funnel) -> None:
    """The twin of a generation: the same index, which says that full vectors do not rescore."""
    twin = shutil.copytree(indexes / name, indexes / _twin(name))
    state = json.loads((twin / "state.json").read_text())
    alone = replace(funnel, rescore=False, accept_loss=True)
    (twin / "state.json").write_text(json.dumps({**state, "funnel": alone.to_json()}))


async def _each(changes: Iterator[Changes]) -> AsyncIterator[Changes]:
    for one in changes:
        yield one


async def _searched(
    retriever: IndexRetriever, rows: Sequence[Mode], data: SciFact, limit: int
) -> tuple[dict[str, dict[str, list[str]]], dict[str, list[float]], dict[str, str]]:
    """By mode: the rankings of documents by query, the milliseconds of each search, the methods of its stages."""
    rankings: dict[str, dict[str, list[str]]] = {mode.name: {} for mode in rows}
    times: dict[str, list[float]] = {mode.name: [] for mode in rows}
    methods: dict[str, str] = {}
    for (query_id, text), vector in zip(data.queries.items(), data.query_vectors, strict=True):
        for mode in rows:
            scope = scifact.scope(mode.generation)
            asked = text if mode.lexical else ""
            query = Query(scope, Target.PASSAGES, asked, vector if mode.dense else None, limit)
            began = time.perf_counter()
            found = await retriever.search(query)
            times[mode.name].append((time.perf_counter() - began) * 1000)
            rankings[mode.name][query_id] = _documents(found.hits)
            methods[mode.name] = " ".join(f"{stage.name}:{stage.method}" for stage in found.plan)
    return rankings, times, methods


def _documents(hits: Sequence[Hit]) -> list[str]:
    return list(dict.fromkeys(hit.doc_id for hit in hits))


def _judged(shallow: Mapping[str, list[str]], deep: Mapping[str, list[str]], data: SciFact) -> Figures:
    near, far = retrieval_figures(shallow, data.judged), retrieval_figures(deep, data.judged)
    return {"ndcg@10": near["ndcg@10"], "recall@10": near["recall@10"], "recall@100": far["recall@100"]}


def _bytes(data: SciFact, settings: RetrieverSettings, name: str) -> Figures:
    points = len(data.passages)
    split = on_disk(settings.home / "index" / name)
    found = {part: round(size / points, 1) for part, size in split.items()}
    return {**found, "disk": round(sum(split.values()) / points, 1), **resident(settings.home, name, data)}


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--documents", type=int, default=None, help="only so many abstracts, for a trial")
    options.add_argument(
        "--funnels", nargs="*", default=list(_COARSE), choices=list(_COARSE), help="of the coarse ones"
    )
    chosen = options.parse_args()
    configure("retrieval", "warning")  # standard output is the report's
    return publish("retrieval", TARGETS, chosen.json, lambda: measure(chosen.documents, chosen.funnels))


if __name__ == "__main__":
    sys.exit(main())
