"""The points of one generation in append-only files, with what a search needs of them in memory.

`rows.bin` (fixed-size records), `vectors.bin` (full vectors of length one, row by row), `texts.bin` (ids and metadata
as JSON), `terms.bin` (what BM25 needs of the text), `labels.bin` (metadata entries) and `ends.bin` (where rows end in
record time, or that they are dead). A row with the key of an earlier one takes its place. Only lengths that were saved
count after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.common.nodes.retriever import Point, Target, Vectors
from services.retriever.backends.durable import AppendedRecords
from services.retriever.backends.rows.lookup import Lookup, Rows, code, digest
from services.retriever.backends.rows.postings import TERM, Terms
from services.retriever.backends.rows.table import DEAD, Table

TIMES = ("valid_from", "valid_to", "recorded_from", "recorded_to")
RECORD = np.dtype(
    [
        ("key", "<u8", 2),
        ("doc", "<u8"),
        ("text_at", "<u8"),
        ("terms_to", "<u8"),
        ("text_length", "<u4"),
        ("scope", "<u4"),
    ]
    + [(name, "<i8") for name in TIMES]
)
LABEL = np.dtype([("code", "<u8"), ("row", "<u8")])
END = np.dtype([("row", "<u8"), ("recorded_to", "<i8")])

_STEP = 256
"""Rows copied or read in one step: a search waits no longer than that takes."""

_MOST_MAPPED = 32 << 20
"""Bytes mapped before they are let go, so that what was rescored does not stay resident."""

Place = tuple[str, str, Target]
Lengths = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Text:
    """What a row says of itself."""

    point_id: str
    item_id: str
    doc_id: str
    metadata: Mapping[str, str]


class Segment:
    """Opened at the lengths saved last. places: each place's number is its position in the list."""

    def __init__(self, directory: Path, dimensions: int, lengths: Lengths, places: Sequence[Place]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        vector = np.dtype((np.float32, (dimensions,)))
        kinds: dict[str, npt.DTypeLike] = {
            "rows": RECORD,
            "vectors": vector,
            "texts": np.uint8,
            "terms": TERM,
            "labels": LABEL,
            "ends": END,
        }
        self.directory = directory
        self._files = {name: _opened(directory, name, kind, lengths) for name, kind in kinds.items()}
        self.places = list(places)
        self._mapped = 0
        self._numbers = {place: number for number, place in enumerate(places)}
        self._tables: dict[int, Table] = {}
        self._load()

    @property
    def rows(self) -> int:
        """Rows written, the dead ones among them."""
        return self._files["rows"].length

    def count(self) -> int:
        """Rows that are not dead."""
        return sum(len(table) for table in self._tables.values())

    def allocated(self) -> int:
        """Bytes of the columns and of the sorted keys."""
        columns = sum(table.allocated() for table in self._tables.values())
        return columns + self._keys.allocated() + self._labels.allocated()

    def lengths(self) -> dict[str, int]:
        return {name: file.length for name, file in self._files.items()}

    def vectors_of(self, rows: Rows) -> Vectors:
        """Shape (len(rows), dimensions), read from the file. rows: ascending, at least one."""
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 > len(rows):
            return self._files["vectors"].read(rows)
        held = self._files["vectors"].view()
        self._mapped += len(rows) * held.strides[0]
        if self._mapped > _MOST_MAPPED:
            self._let_go()
        return held[first : last + 1]

    def table(self, place: Place) -> Table | None:
        number = self._numbers.get(place)
        return None if number is None else self._tables.get(number)

    def append(
        self, tenant: str, collection: str, points: Sequence[Point], vectors: Vectors, terms: Sequence[Terms]
    ) -> None:
        """vectors: of length one, shape (len(points), dimensions). terms: of each point."""
        first = self.rows
        texts = [_written(point) for point in points]
        records = np.zeros(len(points), RECORD)
        records["key"] = [_key(tenant, collection, point.point_id) for point in points]
        records["doc"] = [code(point.doc_id) for point in points]
        records["text_length"] = [len(text) for text in texts]
        ends = np.cumsum(records["text_length"], dtype=np.uint64)
        records["text_at"] = self._files["texts"].length + ends - records["text_length"]
        lengths = [len(one) for one in terms]
        records["terms_to"] = self._files["terms"].length + np.cumsum(lengths, dtype=np.uint64)
        records["scope"] = [self._number((tenant, collection, point.target)) for point in points]
        for name, times in zip(TIMES, np.array([_times(point) for point in points], np.int64).T, strict=True):
            records[name] = times
        labels = [(entry, first + at) for at, point in enumerate(points) for entry in self._entries(records[at], point)]
        self._files["texts"].append(np.frombuffer(b"".join(texts), np.uint8))
        self._files["terms"].append(np.concatenate([np.empty(0, TERM), *terms]))
        self._files["labels"].append(np.array(labels, LABEL))
        self._files["vectors"].append(np.asarray(vectors, np.float32))
        self._files["rows"].append(records)
        self._take(first, records, labels)

    def end(self, ends: Sequence[tuple[int, int]]) -> None:
        """ends: (row, where it ends in record time)."""
        self._files["ends"].append(np.array(ends, END))
        for row, recorded_to in ends:
            self._table_of(row).end(row, recorded_to)

    def kill(self, rows: Rows) -> None:
        self._files["ends"].append(np.array([(row, DEAD) for row in rows.tolist()], END))
        for row in rows.tolist():
            self._table_of(row).kill(row)

    def find(self, tenant: str, collection: str, point_id: str) -> int | None:
        """The living row of a point."""
        row = self._latest(_key(tenant, collection, point_id))
        return row if row is not None and self._table_of(row).holds(row) else None

    def of_document(self, place: Place, doc_id: str) -> Rows:
        """The living rows of a document."""
        living = self.living(place)
        alike = living[self._files["rows"].view()["doc"][living] == code(doc_id)]
        return np.array([row for row in alike.tolist() if self.text(row).doc_id == doc_id], np.int64)

    def labelled(self, place: Place, key: str, values: Sequence[str]) -> Rows:
        """The rows that carry one of the values under the key, ascending; the hash alone decides."""
        number = self._numbers[place]
        return np.unique(np.concatenate([self._labels.rows(_entry(number, key, value)) for value in values]))

    def text(self, row: int) -> Text:
        return next(self.texts(np.array([row])))

    def texts(self, rows: Rows) -> Iterator[Text]:
        records, held = self._files["rows"].read(rows), self._files["texts"].view()
        starts, lengths = records["text_at"].tolist(), records["text_length"].tolist()
        written = [held[start : start + length].tobytes() for start, length in zip(starts, lengths, strict=True)]
        return (Text(*fields) for fields in json.loads((b"[%b]" % b",".join(written)).decode()))

    def terms(self, row: int) -> Terms:
        ends = self._files["rows"].view()["terms_to"]
        start = int(ends[row - 1]) if row else 0
        return self._files["terms"].view()[start : int(ends[row])]

    def tables(self) -> list[Table]:
        return list(self._tables.values())

    def living(self, place: Place) -> Rows:
        table = self.table(place)
        return table.living() if table else np.empty(0, np.int64)

    def copy_to(self, other: Segment) -> Iterator[bool]:
        """Append every living row to an empty segment, some in each step."""
        for tenant, collection, target in self.places:
            for rows in in_steps(self.living((tenant, collection, target))):
                points = [self.point(row, target) for row in rows.tolist()]
                other.append(
                    tenant, collection, points, self.vectors_of(rows), [self.terms(row) for row in rows.tolist()]
                )
                yield True

    def point(self, row: int, target: Target) -> Point:
        """As it was written, with the extent it has now, and without its text."""
        text = self.text(row)
        extent = self._table_of(row).extent(row)
        return Point(text.point_id, target, text.item_id, text.doc_id, extent, "", text.metadata)

    def sync(self) -> None:
        for file in self._files.values():
            file.sync()

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _let_go(self) -> None:
        self._mapped = 0
        for file in self._files.values():
            file.let_go()

    def _load(self) -> None:
        records = self._files["rows"].view()
        labels = self._files["labels"].view()
        rows = np.arange(len(records))
        self._keys = Lookup(records["key"][:, 0], rows)
        self._labels = Lookup(labels["code"], labels["row"])
        times = np.array([records[name] for name in TIMES])
        ends = self._files["ends"].view()
        times[3, ends["row"]] = ends["recorded_to"]
        gone = (times[3] == DEAD) | _replaced(records["key"])
        order = np.argsort(records["scope"], kind="stable")
        order = order[~gone[order]]
        starts = np.searchsorted(records["scope"][order], np.arange(len(self.places) + 1))
        for number, (start, end) in enumerate(pairwise(starts.tolist())):
            self._tables[number] = Table(order[start:end], times[:, order[start:end]])
        self._let_go()

    def _take(self, first: int, records: npt.NDArray[Any], labels: Sequence[tuple[int, int]]) -> None:
        """Remember rows that are written; each takes the place of an earlier one with its key."""
        times = np.array([records[name] for name in TIMES])
        for number in np.unique(records["scope"]).tolist():
            mine = np.flatnonzero(records["scope"] == number)
            self._tables[number].append(first + mine, times[:, mine])
        for row, key in enumerate(records["key"].tolist(), start=first):
            earlier = self._latest((key[0], key[1]))
            if earlier is not None:
                self._replace(earlier)
            self._keys.add(key[0], row)
        for entry, row in labels:
            self._labels.add(entry, row)

    def _replace(self, row: int) -> None:
        """Nothing is written: that the key comes again says it."""
        table = self._table_of(row)
        if table.holds(row):
            table.kill(row)

    def _latest(self, key: tuple[int, int]) -> int | None:
        held = self._files["rows"].view()["key"]
        rows = [row for row in self._keys.rows(key[0]).tolist() if int(held[row, 1]) == key[1]]
        return max(rows, default=None)

    def _table_of(self, row: int) -> Table:
        return self._tables[int(self._files["rows"].view()["scope"][row])]

    def _number(self, place: Place) -> int:
        if place not in self._numbers:
            self._numbers[place] = len(self.places)
            self._tables[len(self.places)] = Table(np.empty(0, np.int64), np.empty((4, 0), np.int64))
            self.places.append(place)
        return self._numbers[place]

    def _entries(self, record: Any, point: Point) -> list[int]:
        return [_entry(int(record["scope"]), key, value) for key, value in point.metadata.items()]


def in_steps(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + _STEP] for start in range(0, len(rows), _STEP))


def _opened(directory: Path, name: str, kind: npt.DTypeLike, lengths: Lengths) -> AppendedRecords:
    return AppendedRecords(directory / f"{name}.bin", kind, lengths.get(name, 0))


def _written(point: Point) -> bytes:
    return json.dumps([point.point_id, point.item_id, point.doc_id, dict(point.metadata)], ensure_ascii=False).encode()


def _times(point: Point) -> tuple[int, int, int, int]:
    valid, recorded = point.extent.valid, point.extent.recorded
    return valid.start, valid.end, recorded.start, recorded.end


def _key(tenant: str, collection: str, point_id: str) -> tuple[int, int]:
    named = digest(tenant, collection, point_id)
    return int.from_bytes(named[:8], "little"), int.from_bytes(named[8:], "little")


def _entry(scope: int, key: str, value: str) -> int:
    """A place's entries lie apart, so that what is common elsewhere costs nothing here."""
    return code(str(scope), json.dumps([key, value]))


def _replaced(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of the rows have a later one with the same key. keys: shape (n, 2)."""
    order = np.lexsort((np.arange(len(keys)), keys[:, 1], keys[:, 0]))
    gone = np.zeros(len(keys), bool)
    gone[order[:-1]] = (keys[order[:-1]] == keys[order[1:]]).all(axis=1)
    return gone
