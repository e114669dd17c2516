"""One view's rows: Parquet files, which Feast reads, and the point-in-time index over them.

Feast reads only what pandas can date; rows outside lie in a sibling directory. Files of few rows are held in memory,
at most a set number of rows in all; together they become a file of many rows, and files of about as many rows become a
larger one, as in a size-tiered log-structured merge tree. Every file of many rows has a sorted run beside it, made anew
where it is missing.
"""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.common.disk import bytes_under
from services.common.nodes.features import FeatureRow
from services.features.backends.parquet import ParquetDirectory, digest
from services.features.backends.rows import RowStore, integers, schema_of
from services.features.backends.runs import PART_ROWS, Run, RunWriter, hash_keys, merged, open_run, sorted_run
from services.features.index import Bound, Found, PointInTimeIndex, latest
from services.features.span import FEAST_SPAN
from services.features.views import View

BUFFER_ROWS = 65_536
_MOST_SMALL = 64
_TIER = 4
"""So many files of about as many rows become one, and a tier holds files of up to so many times the rows."""

Unwanted = Callable[[pa.ChunkedArray], pa.ChunkedArray]
"""Which of the entity keys are to go, as booleans."""


class _Held:
    """What reads see: small files in memory, the others as runs."""

    def __init__(self, view: View) -> None:
        self.index, self.rows = PointInTimeIndex(), RowStore(view)
        self.small: dict[Path, int] = {}
        self.runs: Mapping[Path, Run] = {}

    def remember(self, path: Path, table: pa.Table) -> None:
        keys = table.column("entity_key").to_pylist()
        self.index.add(keys, integers(table, "event_us"), integers(table, "created_us"), self.rows.add(table))
        self.small[path] = table.num_rows


class ViewStore:
    """Any number of readers and one writer; `merge` may run beside an append, `commit` may not."""

    def __init__(self, directory: Path, view: View, buffer_rows: int = BUFFER_ROWS) -> None:
        self.view, self.schema = view, schema_of(view)
        self.within = ParquetDirectory(directory / "offline" / view.name, self.schema)
        self.beyond = ParquetDirectory(directory / "beyond" / view.name, self.schema)
        self._index = directory / "index" / view.name
        self._buffer = buffer_rows
        self._small = max(1, buffer_rows // _TIER)
        for files in (self.within, self.beyond):
            files.conform()
        self._held = _Held(view)
        self.reload()

    def __len__(self) -> int:
        return len(self._held.index) + sum(map(len, self._held.runs.values()))

    def latest(self, keys: Sequence[str], as_of: Bound, known_at: Bound) -> list[FeatureRow | None]:
        """For each key the row that holds at the moment; one moment for all keys, or one for each."""
        held, hashes = self._held, hash_keys(keys)
        runs, small = list(held.runs.values()), held.index.parts(keys)
        parts = [*small, *((run.columns, hashes) for run in runs)]
        found = latest(parts, len(keys), as_of, known_at)
        stores = [*(held.rows for _ in small), *(run.rows for run in runs)]
        rows = _gathered(stores, found)
        shared = frozenset().union(*(run.shared for run in runs))
        for at, (key, row) in enumerate(zip(keys, rows, strict=True)):
            if (row is not None and row.entity != key) or int(hashes[at]) in shared:
                rows[at] = _exact(held, key, int(_at(as_of, at)), int(_at(known_at, at)))
        return [None if self._expired(row, _at(as_of, at)) else row for at, row in enumerate(rows)]

    def _expired(self, row: FeatureRow | None, as_of: int) -> bool:
        return row is not None and 0 < self.view.ttl < as_of - row.event

    def begun(self, since: int, until: int) -> set[str]:
        """The keys of rows whose event lies after `since` and not after `until`."""
        held = self._held
        parts = [(columns, held.rows) for columns, _ in held.index.parts([])]
        parts += [(run.columns, run.rows) for run in held.runs.values()]
        found: set[str] = set()
        for columns, rows in parts:
            at = np.flatnonzero((columns.event > since) & (columns.event <= until))
            found |= {row.entity for row in rows.get(columns.names(at), at, at)}
        return found

    def tables_of(self, prefix: str) -> Iterator[pa.Table]:
        """The rows of all entities whose key begins so, a part of a file at a time, each row once: those that were
        written once more for Feast, at the start of its span, are passed over."""
        for files in (self.within, self.beyond):
            for path in files.files():
                for part in _parts(files, path):
                    found = part.filter(pc.starts_with(part.column("entity_key"), prefix))
                    if files is self.within:
                        found = found.filter(pc.greater_equal(found.column("event_us"), FEAST_SPAN.start))
                    yield found

    def size(self) -> int:
        """Bytes of all files."""
        places = (self.within.directory, self.beyond.directory, self._index)
        return sum(map(bytes_under, places))

    def known_to_feast(self) -> bool:
        """Whether there is any file for Feast to read; without one it fails."""
        return bool(self.within.files())

    def add(self, paths: Sequence[Path]) -> None:
        """Let reads see new files."""
        for path in paths:
            if pq.read_metadata(path).num_rows < self._small:
                self._held.remember(path, self._of(path).read(path))
            else:
                self._held.runs = {**self._held.runs, path: self._run(path)}

    def reload(self) -> None:
        """Let reads see what the directories hold, and nothing else."""
        held, runs = _Held(self.view), {}
        for path in (*self.within.files(), *self.beyond.files()):
            if pq.read_metadata(path).num_rows < self._small:
                held.remember(path, self._of(path).read(path))
            else:
                runs[path] = self._held.runs.get(path) or self._run(path)
        held.runs, self._held = runs, held
        wanted = {self._run_directory(path) for path in runs}
        for left in (left for left in self._index.glob("*/*") if left not in wanted):
            shutil.rmtree(left)

    def due(self) -> tuple[ParquetDirectory, list[Path]] | None:
        """Files that are to become one."""
        for files in (self.within, self.beyond):
            small = [path for path in self._held.small if path.parent == files.directory]
            if len(small) >= _MOST_SMALL or sum(self._held.small[path] for path in small) >= self._buffer:
                return files, small
            tiers: defaultdict[int, list[Path]] = defaultdict(list)
            for path, run in self._held.runs.items():
                if path.parent == files.directory:
                    tiers[int(math.log(max(1, len(run) / self._small), _TIER))].append(path)
            for tier in sorted(tiers):
                if len(tiers[tier]) >= _TIER:
                    return files, tiers[tier]
        return None

    def merge(self, files: ParquetDirectory, paths: Sequence[Path]) -> Path | None:
        """Write the rows of several files as one that is not seen before `commit`."""
        runs = [self._held.runs.get(path) or sorted_run(self.view, files.read(path)) for path in paths]
        name = f"merged-{digest(*(path.stem for path in paths))}"
        parts = merged(self.view, self.schema, runs)
        if sum(map(len, runs)) < self._small:
            return files.stage(name, (part.table(self.schema) for part in parts))
        writer = RunWriter(self._run_directory(files.directory / f"{name}.parquet"), self.schema)

        def tables() -> Iterator[pa.Table]:
            for part in parts:
                writer.write(part)
                yield part.table(self.schema)

        staged = files.stage(name, tables())
        if staged is not None:
            writer.finish(_fingerprint(staged))
        return staged

    def commit(self, files: ParquetDirectory, staged: Path | None, replaced: Sequence[Path]) -> None:
        """Show a file in place of others: first it, then not them."""
        shown = files.show([staged] if staged else [])
        files.remove(set(replaced) - set(shown))
        self.reload()

    def remove(self, unwanted: Unwanted) -> int:
        """Write every file that holds unwanted rows anew without them; returns how many there were."""
        removed = 0
        for files in (self.within, self.beyond):
            for path in files.files():
                if found := _count(path, unwanted):
                    removed += found
                    kept = (part.filter(pc.invert(unwanted(part.column("entity_key")))) for part in _parts(files, path))
                    staged = files.stage(f"kept-{digest(path.stem)}", kept)
                    files.show([staged] if staged else [])
                    files.remove([path])
        if removed:
            self.reload()
        return removed

    def _of(self, path: Path) -> ParquetDirectory:
        return self.within if path.parent == self.within.directory else self.beyond

    def _run_directory(self, path: Path) -> Path:
        return self._index / path.parent.parent.name / path.stem

    def _run(self, path: Path) -> Run:
        """The run of a file, made if there is none that was made of it as it is."""
        directory, made_of = self._run_directory(path), _fingerprint(path)
        if (run := open_run(directory, self.view, self.schema, made_of)) is None:
            self._build(path, directory, made_of)
            run = open_run(directory, self.view, self.schema, made_of)
        assert run is not None
        return run

    def _build(self, path: Path, directory: Path, made_of: Any) -> None:
        """Sort a file as large as may be: parts of it, then all of them together."""
        parts: list[Run] = []
        for number, table in enumerate(_parts(self._of(path), path)):
            part = directory.with_name(f"{directory.name}-{number}")
            _write(part, self.schema, iter([sorted_run(self.view, table)]), number)
            if (run := open_run(part, self.view, self.schema, number)) is not None:
                parts.append(run)
        _write(directory, self.schema, merged(self.view, self.schema, parts), made_of)
        for number in range(len(parts)):
            shutil.rmtree(directory.with_name(f"{directory.name}-{number}"))


def _write(directory: Path, schema: pa.Schema, parts: Iterator[Run], made_of: Any) -> None:
    writer = RunWriter(directory, schema)
    for part in parts:
        writer.write(part)
    writer.finish(made_of)


def _parts(files: ParquetDirectory, path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(PART_ROWS):
            yield pa.Table.from_batches([batch], files.schema)


def _count(path: Path, unwanted: Unwanted) -> int:
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(PART_ROWS, columns=["entity_key"])
        return sum(pc.sum(unwanted(pa.chunked_array([batch.column(0)]))).as_py() or 0 for batch in batches)


def _fingerprint(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _at(bound: Bound, number: int) -> int:
    return bound if isinstance(bound, int) else int(bound[number])


def _gathered(stores: Sequence[RowStore], found: Found) -> list[FeatureRow | None]:
    rows: list[FeatureRow | None] = [None] * len(found.row)
    for place in set(found.place[found.row >= 0].tolist()):
        chosen = np.flatnonzero((found.place == place) & (found.row >= 0))
        for at, row in zip(chosen.tolist(), stores[place].get(*(column[chosen] for column in found[:3])), strict=True):
            rows[at] = row
    return rows


def _exact(held: _Held, key: str, as_of: int, known_at: int) -> FeatureRow | None:
    """As `latest`, for a key whose hash another key has."""
    best, stores = held.index.latest([key], as_of, known_at), [held.rows]
    best = best._replace(place=np.zeros(1, np.int64))
    for number, run in enumerate(held.runs.values(), 1):
        best = best.updated(run.latest_of(key, as_of, known_at)._replace(place=np.array([number])))
        stores.append(run.rows)
    return _gathered(stores, best)[0]
