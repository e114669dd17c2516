"""The funnel at its engine: recall at narrow moments, latency, bytes, and builds beside the serving process.

The index is funnel_index's. Recall is measured against an exhaustive search in numpy. "With a moment" is a search at a
moment at which a share of the points passes; "without" is the engine's same search with no filter and no index around
it: as many candidates by their codes, rescored by full vectors. Both are timed in turn; so are a small tenant's
searches beside a large one and beside one of a tenth of its size. With `--keep DIR` the index stays in DIR, where the
next run finds it built and only measures.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.bare import bare_search
from benchmarks.common import ROOT, Figures, parser, publish
from benchmarks.funnel_index import (
    DEPTH,
    DIMENSIONS,
    LARGE,
    SHARES,
    SMALL,
    TENTH,
    TICKS,
    WHOLE,
    Corpus,
    corpus,
    made,
    opened,
    queries,
    query,
    timed,
    times,
)
from benchmarks.resident import LEFT_OUT, codes, probe, sizes
from pipelines.evaluation import Targets
from services.common.nodes.retriever import Vectors
from services.retriever.backends.base import Index
from services.retriever.backends.rows.index import RowsIndex

TARGETS: Targets = {
    **{f"recall_at_10_{name}": {"min": 0.98} for name in SHARES},
    "latency_with_moment_ratio": {"max": 1.5},
    "codes_ratio": {"max": 1 / 8},
    "resident_files_ratio": {"max": 1 / 3},
    "resident_memory_ratio": {"max": 1 / 3},
    "small_tenant_ratio": {"max": 1.25},
}
_TRUTH_BLOCK = 25
"""Queries compared with all vectors at once: 100 MB of cosines at 1,000,000."""
_SMALL_SEARCHES = 400
_APART = 31
"""How many turns lie between two searches for one vector."""
_EARLIER = 0.1
"""The share of visible points that the last moment of a share lacks."""


def measure(home: Path, backend: str, points: int, count: int, tenants: int) -> Figures:
    held = corpus(points)
    asked = queries(held, count)
    building = made(home, backend, held, tenants, asked)
    early, index = opened(home / TENTH, backend), opened(home / WHOLE, backend)
    figures = {
        "points": points,
        **_searched(index, held, asked),
        **building,
        **_tenants(early, index, held, tenants),
    }
    early.close()
    index.close()
    return {**figures, **_bytes(home / WHOLE, backend, points)}


def _searched(index: RowsIndex, held: Corpus, asked: Vectors) -> Figures:
    figures: Figures = {}
    for (name, share), truth in zip(SHARES.items(), _truth(held, asked), strict=True):
        times(index, asked[:10], share)
        hits, methods = 0, set()
        for vector, right in zip(asked, truth, strict=True):
            (found,) = index.search([(query(vector, share), DEPTH)])
            hits += len({one.item_id for one in found.dense} & right)
            methods.add("+".join(stage.method for stage in found.plan))
        figures[f"recall_at_10_{name}"] = round(hits / sum(len(right) for right in truth), 4)
        figures[f"plan_{name}"] = sorted(methods)
    figures |= _latencies(index, asked)
    batch = [(query(vector, 1.0), DEPTH) for vector in asked[:32]]
    figures["ms_each_of_32_together"] = round(timed(partial(index.search, batch)) / len(batch), 3)
    return figures


def _latencies(index: RowsIndex, asked: Vectors) -> Figures:
    """Median milliseconds at each share, again and again at one moment (`now`) and without a filter, in turn, by the
    clock (`ms_…`) and of processor time (`cpu_ms_…`), which tells how they compare where others keep the machine busy.

    What was just searched for is at hand, and whoever came next would be quicker: so each turn every one has another
    vector and another predecessor, and each share another moment.
    """
    clock: dict[str, list[float]] = defaultdict(list)
    processor: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, work: Callable[[], object]) -> None:
        began, used = time.perf_counter(), time.process_time()
        work()
        clock[name].append((time.perf_counter() - began) * 1000)
        processor[name].append((time.process_time() - used) * 1000)

    def at(share: float, vector: Vectors) -> object:
        return index.search([(query(vector, share), DEPTH)])

    bare, random = bare_search(index), Random(5)
    for turn in range(len(asked)):
        left = 1 - _EARLIER * turn / len(asked)
        searches: dict[str, Callable[[Vectors], object]] = {
            **{name: partial(at, share * left) for name, share in SHARES.items()},
            "now": partial(at, 1.0),
            "without": bare,
        }
        for place, name in enumerate(random.sample(list(searches), len(searches))):
            timed(name, partial(searches[name], asked[(turn + place * _APART) % len(asked)]))
    return {
        **{f"ms_{name}": round(statistics.median(each), 3) for name, each in clock.items()},
        **{f"cpu_ms_{name}": round(statistics.median(each), 3) for name, each in processor.items()},
        "latency_with_moment_ratio": _slowest(clock),
        "cpu_with_moment_ratio": _slowest(processor),
    }


def _slowest(times: Mapping[str, Sequence[float]]) -> float:
    """Of the shares, against none."""
    medians = {name: statistics.median(each) for name, each in times.items()}
    return round(max(medians[name] for name in SHARES) / medians["without"], 2)


def _truth(held: Corpus, asked: Vectors) -> list[list[set[str]]]:
    """For each share, for each query, the best of all vectors."""
    found: list[list[set[str]]] = [[] for _ in SHARES]
    passing = [np.flatnonzero(held.known_from <= round(share * TICKS)) for share in SHARES.values()]
    for start in range(0, len(asked), _TRUTH_BLOCK):
        for cosines in asked[start : start + _TRUTH_BLOCK] @ held.vectors.T:
            for best, places in zip(found, passing, strict=True):
                nearest = places[np.argsort(-cosines[places])[:DEPTH]]
                best.append({f"{LARGE}-{place}" for place in nearest})
    return found


def _tenants(early: Index, index: Index, held: Corpus, tenants: int) -> Figures:
    """Median milliseconds of small tenants' searches, dense and with text, beside the large tenant as it is and as it
    was with a tenth: in turn, the same tenant in both."""
    random = np.random.default_rng(3)
    asked = [SMALL.format(number) for number in random.integers(tenants, size=_SMALL_SEARCHES).tolist()]
    figures: Figures = {}
    for name, text in (("", ""), ("hybrid_", "word1 passage")):
        took: dict[str, list[float]] = defaultdict(list)
        for tenant in 2 * asked:  # the first time to warm them
            one = [(query(held.vectors[0], tenant=tenant, text=text), DEPTH)]
            for size, searched in ((TENTH, early), (WHOLE, index)):
                took[size].append(timed(partial(searched.search, one)))
        medians = {size: statistics.median(each[len(asked) :]) for size, each in took.items()}
        figures[f"small_tenant_{name}ms"] = {size: round(ms, 3) for size, ms in medians.items()}
        figures[f"small_tenant_{name}ratio"] = round(medians[WHOLE] / medians[TENTH], 2)
    return figures


def _bytes(home: Path, backend: str, points: int) -> Figures:
    """Bytes a point: by the files, and by the memory of a process that has just opened the index and searched it."""
    index = home / "index"
    full = points * DIMENSIONS * 4
    files = sizes(index)
    kept = {name: size for name, size in files.items() if not any(part in name for part in LEFT_OUT)}
    resident = probe(backend, home)
    return {
        "bytes_a_point": {name: round(size / points, 1) for name, size in kept.items() if size > points},
        "codes_ratio": round(codes(files, backend) / full, 4),
        "resident_files_ratio": round(sum(kept.values()) / full, 3),
        "resident_memory_ratio": round(resident["resident"] / full, 3),
        "whole_rss_ratio": round(resident["rss"] / full, 3),
        "open_seconds": resident["open_seconds"],
        "disk_ratio": round(sum(files.values()) / full, 2),
    }


def plot(figures: Figures, backend: str) -> None:
    """Recall and latency by share, in benchmarks/out. Without matplotlib nothing is drawn."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: install matplotlib", file=sys.stderr)
        return
    drawn = Figure(figsize=(8, 3.5), layout="constrained")
    recall, latency = drawn.subplots(1, 2)
    shares = [share * 100 for share in SHARES.values()]
    for axes, prefix, title in ((recall, "recall_at_10_", "recall@10"), (latency, "ms_", "ms a search")):
        axes.plot(shares, [figures[f"{prefix}{name}"] for name in SHARES], marker="o")
        axes.set(xscale="log", xlabel="share of points visible, %", title=title)
        axes.set_ylim(bottom=0)
    drawn.suptitle(f"{backend}, {figures['points']:,} vectors")
    out = ROOT / "benchmarks" / "out"
    out.mkdir(exist_ok=True)
    drawn.savefig(out / f"funnel-{backend}-{figures['points']}.png", dpi=120)


@contextmanager
def _home(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="almanac-funnel-") as home:
        yield Path(home)


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--backend", default="edge")
    options.add_argument("--points", type=int, default=200_000)
    options.add_argument("--queries", type=int, default=200)
    options.add_argument("--tenants", type=int, default=1_000, help="small tenants beside the large one")
    options.add_argument("--keep", type=Path, help="where the index is kept, of one backend and size")
    chosen = options.parse_args()

    def measured() -> Figures:
        with _home(chosen.keep) as home:
            figures = measure(home, chosen.backend, chosen.points, chosen.queries, chosen.tenants)
        plot(figures, chosen.backend)
        return figures

    return publish("funnel", TARGETS, chosen.json, measured)


if __name__ == "__main__":
    sys.exit(main())
