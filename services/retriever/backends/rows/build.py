"""A build: another process makes the coarse index and the postings of the rows there are, beside what serves."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from services.retriever.backends.rows.coarse import Coarse, Kind
from services.retriever.backends.rows.moments import Moments
from services.retriever.backends.rows.postings import BuiltPostings
from services.retriever.backends.rows.segment import Segment

COARSE, POSTINGS = ".coarse", ".postings"
"""What the two parts of a build are called behind its name."""
_LOOK_SECONDS = 0.005
"""A step's length while what was built is read."""

Built = tuple[Coarse, BuiltPostings]


def read_built(directory: Path, name: str, kind: Kind) -> Built:
    path = directory / name
    return kind.read(path.with_suffix(COARSE)), BuiltPostings(path.with_suffix(POSTINGS))


def remove_built(directory: Path, but: str) -> None:
    """Remove every build of a segment but one: replaced, given up or cut short."""
    for path in directory.glob("index-*"):
        if path.stem != but and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.stem != but:
            path.unlink(missing_ok=True)


class RowsBuild:
    """Of the rows a segment has now: its files only grow, so that the builder may read them meanwhile."""

    def __init__(
        self,
        segment: Segment,
        dimensions: int,
        previous: str,
        kind: Kind,
        adopted: Callable[[str, Built], None],
    ) -> None:
        """previous: the name of the build to add rows to, if any. adopted: told the build's name and what it holds."""
        self._tables = segment.tables
        self._segment = segment.directory
        self._rows = segment.rows
        self._name = f"index-{segment.rows}"
        self._dimensions = dimensions
        self._previous = previous
        self._kind = kind
        self._adopted = adopted
        self._done = False

    @property
    def command(self) -> Sequence[str]:
        previous = self._segment / f"{self._previous}{COARSE}" if self._previous else None
        task = {
            "parent": os.getpid(),
            "segment": str(self._segment),
            "rows": self._rows,
            "dimensions": self._dimensions,
            "engine": self._kind.name,
            "module": self._kind.module,
            "option": self._kind.option,
            "previous": str(previous) if previous else None,
            "name": self._name,
        }
        return ("-m", "services.retriever.backends.rows.builder", json.dumps(task))

    def prepare(self) -> Generator[bool]:
        yield from ()  # the files only grow: nothing need be copied

    def adopt(self) -> Generator[bool]:
        """Read, and sort the rows' times, beside the searches: the libraries let go of the interpreter meanwhile."""
        with ThreadPoolExecutor(1) as beside:
            tables = [table for table in self._tables() if table.large]
            reading = beside.submit(self._read, [table.indexing() for table in tables])
            try:
                yield True
                while not wait([reading], _LOOK_SECONDS).done:
                    yield True
            except GeneratorExit:
                reading.result()[1][0].close()
                raise
        indexed, built = reading.result()
        for table, moments in zip(tables, indexed, strict=True):
            table.adopt(moments)
        self._adopted(self._name, built)
        self._done = True

    def _read(self, indexing: Sequence[Callable[[], Moments]]) -> tuple[list[Moments], Built]:
        return [index() for index in indexing], read_built(self._segment, self._name, self._kind)

    def abandon(self) -> None:
        if not self._done:
            remove_built(self._segment, self._previous)
