"""Features at a moment: the point-in-time index against Feast's historical join and its online store, in one process.

The same questions go to all of them in turns: 20 entities drawn at random, at a moment drawn at random, known at it.
The rows lie in files as appends leave them, each half as large as the one before. Feast joins with DuckDB, the faster
of its stores for files.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import Figures, parser, publish
from pipelines.evaluation import Targets
from services.common.moment import OPEN_END, Moment, parse_instant
from services.common.nodes.features import FACTS, FeatureRow
from services.common.nodes.scope import Scope
from services.features.backends.feast import FeastBackend
from services.features.backends.rows import schema_of
from services.features.backends.watermarks import Watermarks
from services.features.features import PointInTimeFeatures
from services.features.views import VIEWS, entity_key

TARGETS: Targets = {
    "times_faster_than_join": {"min": 50},
    "of_online_read": {"max": 2.0},
    "p50_ms": {"max": 2.0},
    "large_of_small": {"max": 2.0},
    "differences": {"max": 0},
}
FEW, MANY = 200_000, 5_000_000
ENTITIES = 20
ROWS_OF_AN_ENTITY = 10
SMALLEST_FILE = 1000
TENANT, COLLECTION = "t", "c"
BEGIN, END = parse_instant("1990-01-01"), parse_instant("2020-01-01")


def measure(few: int, many: int, rounds: int, joins: int) -> Figures:
    """Everything the report tells."""
    # Feast's stores warn of what their libraries will drop.
    warnings.simplefilter("ignore")
    with redirect_stdout(sys.stderr):
        return asyncio.run(_measure(few, many, rounds, joins))


async def _measure(few: int, many: int, rounds: int, joins: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="almanac-benchmark-") as home:
        small, large = Side(Path(home) / "small", few), Side(Path(home) / "large", many)
        try:
            started = time.perf_counter()
            await small.materialize()
            print(f"materialized in {time.perf_counter() - started:.1f} s", file=sys.stderr)
            return await _compare(small, large, rounds, joins)
        finally:
            await small.close()
            await large.close()


class Side:
    """A node over so many rows in a directory of its own."""

    def __init__(self, directory: Path, rows: int) -> None:
        self.rows, self.dice = rows, random.Random(rows)
        _write(directory, rows)
        self.build_seconds = _seconds(lambda: FeastBackend(directory)._lock.close())
        gc.collect()
        before = _anonymous_mib()
        started = time.perf_counter()
        self.backend = FeastBackend(directory)
        self.open_ms = (time.perf_counter() - started) * 1000
        self.memory_mib = _anonymous_mib() - before
        self.node = PointInTimeFeatures(self.backend)
        self.runs = len(self.backend._stores[FACTS]._held.runs)
        self.disk_mib = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 2**20

    def draw(self) -> tuple[list[str], int]:
        names = [f"q{self.dice.randrange(self.rows // ROWS_OF_AN_ENTITY)}" for _ in range(ENTITIES)]
        return names, self.dice.randrange(BEGIN, END)

    async def at(self, entities: Sequence[str], when: int) -> list[FeatureRow]:
        return await self.node.read(Scope(TENANT, COLLECTION, "g", Moment(when, when)), FACTS, entities)

    async def join(self, entities: Sequence[str], when: int) -> list[FeatureRow]:
        return await self.node.training(TENANT, COLLECTION, FACTS, [(entity, when) for entity in entities])

    async def materialize(self) -> None:
        await self.backend.materialize(FACTS)
        self.feast: Any = self.backend._feast._open()
        self.service = self.feast.get_feature_service("facts_v1")

    def online(self, entities: Sequence[str]) -> Mapping[str, Any]:
        rows = [{"entity_key": entity_key(TENANT, COLLECTION, entity)} for entity in entities]
        found: Mapping[str, Any] = self.feast.get_online_features(self.service, rows).to_dict()
        return found

    async def close(self) -> None:
        await self.backend.close()


async def _compare(small: Side, large: Side, rounds: int, joins: int) -> Figures:
    times: dict[str, list[float]] = {name: [] for name in ("index", "large", "online", "join")}
    differences = 0
    for turn in range(-3, rounds):
        entities, when = small.draw()
        further, later = large.draw()
        taken = {}
        started = time.perf_counter()
        found = await small.at(entities, when)
        taken["index"] = time.perf_counter() - started
        taken["online"] = _seconds(partial(small.online, entities))
        started = time.perf_counter()
        await large.at(further, later)
        taken["large"] = time.perf_counter() - started
        if turn < 0 or turn % max(1, rounds // joins) == 0:
            started = time.perf_counter()
            joined = await small.join(entities, when)
            taken["join"] = time.perf_counter() - started
            differences += sum(ours.values != theirs.values for ours, theirs in zip(found, joined, strict=True))
        for name, seconds in taken.items() if turn >= 0 else ():
            times[name].append(seconds * 1000)
    return _figures(small, large, {name: statistics.median(each) for name, each in times.items()}, times, differences)


def _figures(
    small: Side, large: Side, p50: Mapping[str, float], times: Mapping[str, Sequence[float]], differences: int
) -> Figures:
    return {
        "rows": [small.rows, large.rows],
        "entities": ENTITIES,
        "reads": len(times["index"]),
        "joins": len(times["join"]),
        "p50_ms": round(p50["index"], 3),
        "p99_ms": round(statistics.quantiles(times["index"], n=100)[98], 3),
        "large_p50_ms": round(p50["large"], 3),
        "large_p99_ms": round(statistics.quantiles(times["large"], n=100)[98], 3),
        "online_p50_ms": round(p50["online"], 3),
        "join_p50_ms": round(p50["join"], 1),
        "times_faster_than_join": round(p50["join"] / p50["index"], 1),
        "of_online_read": round(p50["index"] / p50["online"], 3),
        "large_of_small": round(p50["large"] / p50["index"], 3),
        "differences": differences,
        "sorted_runs": [small.runs, large.runs],
        "build_seconds": [round(side.build_seconds, 1) for side in (small, large)],
        "restart_ms": [round(side.open_ms, 1) for side in (small, large)],
        "memory_mib": [round(side.memory_mib, 1) for side in (small, large)],
        "disk_mib": [round(side.disk_mib, 1) for side in (small, large)],
    }


def _write(directory: Path, rows: int) -> None:
    """Rows as appended, in files that are each half as large as the one before."""
    offline = directory / "offline" / FACTS
    offline.mkdir(parents=True)
    table, start, size = _rows(rows), 0, max(rows // 2, 1)
    while start < rows:
        size = rows - start if rows - start < 2 * SMALLEST_FILE else size
        pq.write_table(table.slice(start, size), offline / f"part-{start}.parquet", compression="zstd")
        start, size = start + size, max((rows - start - size) // 2, 1)
    Watermarks(directory / "watermarks.json").advance(FACTS, TENANT, COLLECTION, OPEN_END)


def _rows(rows: int) -> pa.Table:
    """Facts of random entities, each recorded within two years after its event, in the order of their records."""
    dice = np.random.default_rng(rows)
    created = np.sort(dice.integers(BEGIN, END, rows))
    event = created - dice.integers(0, 2 * 365 * 86_400_000_000, rows)
    numbers = dice.integers(0, rows // ROWS_OF_AN_ENTITY, rows)
    names = pa.array(np.char.add(f"{TENANT}\x1f{COLLECTION}\x1fq", numbers.astype("U9")))
    answers = pa.array(np.char.add("The answer of row ", np.arange(rows).astype("U9")))
    zone = pa.timestamp("us", tz="UTC")
    values = {
        "entity_key": names,
        "event_timestamp": pa.array(event).cast(zone),
        "created": pa.array(created).cast(zone),
        "event_us": pa.array(event),
        "created_us": pa.array(created),
        "present": pa.array(np.ones(rows, bool)),
        "answer": answers,
        "also_accepted": pa.array(np.full(rows, "[]")),
        "question": names,
        "fact_id": pa.array(np.char.add("fact-", np.arange(rows).astype("U9"))),
        "source": pa.array(np.full(rows, "benchmark")),
        "valid_to": pa.array(np.full(rows, OPEN_END)),
    }
    return pa.table(values, schema=schema_of(VIEWS[FACTS]))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _anonymous_mib() -> float:
    """Memory of this process that is not mapped from files (RssAnon in proc(5))."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) / 1024


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--few", type=int, default=FEW, help="rows of the comparison")
    options.add_argument("--many", type=int, default=MANY, help="rows of the large index")
    options.add_argument("--rounds", type=int, default=300, help="how often each is read")
    options.add_argument("--joins", type=int, default=20, help="how often Feast joins, among the rounds")
    chosen = options.parse_args()
    return publish(
        "asof_features",
        TARGETS,
        chosen.json,
        lambda: measure(chosen.few, chosen.many, chosen.rounds, chosen.joins),
    )


if __name__ == "__main__":
    sys.exit(main())
