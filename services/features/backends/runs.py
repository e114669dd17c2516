"""Sorted runs: rows sorted by (hash of the entity key, event, created), in files that are mapped, not read.

A run is a directory of four files: the three sorted columns as raw little-endian numbers, 24 bytes a row, and the rows
as an Arrow file of record batches. A lookup touches a few pages of each; which of them stay in memory is up to the
operating system. A fifth file says which Parquet file the run was made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.features.backends.rows import RowStore, integers
from services.features.index import Columns, Found, Ints
from services.features.views import View

Hashes = npt.NDArray[np.uint64]

_COLUMNS = (("hash", "<u8"), ("event", "<i8"), ("created", "<i8"))
_ROWS, _ABOUT = "rows.arrow", "about.json"
_BATCH_ROWS = 16_384
PART_ROWS = 262_144
"""Rows that are merged in memory at once, unless one entity has more."""


def hash_key(key: str) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def hash_keys(keys: Sequence[str]) -> Hashes:
    return np.fromiter((hash_key(key) for key in keys), np.uint64, len(keys))


class Run:
    """Sorted rows, in memory or mapped. Two keys of one hash lie one after the other and are told apart."""

    def __init__(self, view: View, hashes: Hashes, event: Ints, created: Ints, batches: list[pa.RecordBatch]) -> None:
        self.hashes, self.event, self.created = hashes, event, created
        self.columns = Columns(hashes, event, created)
        self.rows = RowStore(view)
        self.rows.add_batches(batches)
        self.shared: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.hashes)

    def latest_of(self, key: str, as_of: int, known_at: int) -> Found:
        """The row of one key, whatever other keys have its hash."""
        wanted = np.uint64(hash_key(key))
        start, stop = (int(np.searchsorted(self.hashes, wanted, side)) for side in ("left", "right"))
        held = pa.chunked_array(
            [batch.column("entity_key") for batch in self.rows.slice(start, stop)], pa.string()
        ).to_pylist()
        best = Found.nothing(1)
        for at in (start + number for number, name in enumerate(held) if name == key):
            if self.event[at] <= as_of and self.created[at] <= known_at:
                best = best.updated(
                    Found(np.array([at]), self.event[at : at + 1], self.created[at : at + 1], np.zeros(1, np.int64))
                )
        return best

    def table(self, schema: pa.Schema) -> pa.Table:
        return pa.Table.from_batches(self.rows.slice(0, len(self)), schema)

    def between(self, low: int, high: int) -> list[pa.RecordBatch]:
        """The rows with low ≤ hash < high."""
        stop = len(self) if high > np.iinfo(np.uint64).max else int(np.searchsorted(self.hashes, np.uint64(high)))
        return self.rows.slice(int(np.searchsorted(self.hashes, np.uint64(low))), stop)


def sorted_run(view: View, table: pa.Table) -> Run:
    """The rows of a table, sorted; of rows equal in key, event and created one is kept."""
    table = table.combine_chunks()
    codes, hashes = _coded(table)
    event, created = integers(table, "event_us"), integers(table, "created_us")
    order = np.lexsort((created, event, codes, hashes))
    new = np.ones(len(order), dtype=bool)
    changes = [np.diff(column[order]) != 0 for column in (codes, event, created)]
    new[1:] = np.logical_or.reduce(changes) if len(order) else True
    order = order[new]
    batches = table.take(pa.array(order)).combine_chunks().to_batches(_BATCH_ROWS)
    run = Run(view, hashes[order], event[order], created[order], batches)
    run.shared = _shared(run.hashes, codes[order])
    return run


def merged(view: View, schema: pa.Schema, runs: Sequence[Run]) -> Iterator[Run]:
    """The rows of all runs as runs that follow each other, each made in memory alone: hashes are spread evenly, so that
    equal ranges of them hold about as many rows."""
    parts = max(1, sum(map(len, runs)) // PART_ROWS)
    for low, high in pairwise([2**64 * part // parts for part in range(parts + 1)]):
        batches = [batch for run in runs for batch in run.between(low, high)]
        if batches:
            yield sorted_run(view, pa.Table.from_batches(batches, schema))


class RunWriter:
    """Writes runs that follow each other as one, beside the place it takes at the end."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self._directory = directory
        self._unseen = directory.with_name(f".{directory.name}.tmp")
        shutil.rmtree(self._unseen, ignore_errors=True)
        self._unseen.mkdir(parents=True)
        self._files = [(self._unseen / name).open("wb") for name in (*(name for name, _ in _COLUMNS), _ROWS)]
        self._rows = pa.ipc.new_file(self._files[-1], schema)
        self._shared: set[int] = set()

    def write(self, part: Run) -> None:
        for file, column in zip(self._files, (part.hashes, part.event, part.created), strict=False):
            file.write(np.ascontiguousarray(column).data)
        for batch in part.rows.slice(0, len(part)):
            self._rows.write_batch(batch)
        self._shared |= part.shared

    def finish(self, made_of: Any) -> None:
        """Durable when it returns. Another run of the name is replaced; who has it open keeps it."""
        self._rows.close()
        about = (self._unseen / _ABOUT).open("wb")
        about.write(json.dumps({"made_of": made_of, "shared": sorted(self._shared)}).encode())
        for file in (*self._files, about):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._unseen.replace(self._directory)


def open_run(directory: Path, view: View, schema: pa.Schema, made_of: Any = None) -> Run | None:
    """The run, mapped; None if it is not there, or was made of something else or with other fields."""
    try:
        about = json.loads((directory / _ABOUT).read_text())
    except FileNotFoundError:
        return None
    source = pa.memory_map(str(directory / _ROWS))
    reader = pa.ipc.open_file(source)
    if about["made_of"] != made_of or not reader.schema.equals(schema):
        return None
    columns = [np.asarray(np.memmap(directory / name, dtype=kind, mode="r")) for name, kind in _COLUMNS]
    batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    run = Run(view, columns[0], columns[1], columns[2], batches)
    run.shared = frozenset(about["shared"])
    return run


def _coded(table: pa.Table) -> tuple[Ints, Hashes]:
    """For each row a number of its key and the key's hash."""
    if not table.num_rows:
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    coded = table.column("entity_key").combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy().astype(np.int64)
    return codes, hash_keys(coded.dictionary.to_pylist())[codes]


def _shared(hashes: Hashes, codes: Ints) -> frozenset[int]:
    """The hashes that several keys have."""
    twice = (hashes[1:] == hashes[:-1]) & (codes[1:] != codes[:-1])
    return frozenset(int(one) for one in hashes[1:][twice])
