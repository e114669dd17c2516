"""A build: another process makes the coarse index and the postings of the rows there are, beside what serves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from services.retriever.backends.faiss.coarse import Coarse
from services.retriever.backends.faiss.options import Options
from services.retriever.backends.faiss.postings import BuiltPostings
from services.retriever.backends.faiss.segment import Segment

COARSE, POSTINGS = ".faiss", ".postings"
"""What a build's two files are called behind its name."""
_LOOK_SECONDS = 0.005
"""A step's length while what was built is read."""

Built = tuple[Coarse, BuiltPostings]


def read_built(directory: Path, name: str, options: Options) -> Built:
    path = directory / name
    return Coarse.read(path.with_suffix(COARSE), options), BuiltPostings(path.with_suffix(POSTINGS))


class FaissBuild:
    """Of the rows a segment has now: its files only grow, so that the builder may read them meanwhile."""

    def __init__(
        self,
        segment: Segment,
        dimensions: int,
        previous: str,
        options: Options,
        adopted: Callable[[str, Built], None],
    ) -> None:
        """previous: the name of the build to add rows to, if any. adopted: told the build's name and what it holds."""
        self._segment = segment.directory
        self._rows = segment.rows
        self._name = f"index-{segment.rows}"
        self._dimensions = dimensions
        self._previous = previous
        self._options = options
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
            "kind": self._options.kind,
            "previous": str(previous) if previous else None,
            "name": self._name,
        }
        return ("-m", "services.retriever.backends.faiss.builder", json.dumps(task))

    def prepare(self) -> Generator[bool]:
        yield from ()  # the files only grow: nothing need be copied

    def adopt(self) -> Generator[bool]:
        """Read beside the searches: the library lets go of the interpreter meanwhile."""
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(read_built, self._segment, self._name, self._options)
            while not wait([reading], _LOOK_SECONDS).done:
                yield True
        self._adopted(self._name, reading.result())
        self._done = True
        yield True

    def abandon(self) -> None:
        if not self._done:
            for path in self._segment.glob(f"{self._name}.*"):
                path.unlink(missing_ok=True)
