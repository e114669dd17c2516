"""A build: another process makes the coarse index of the rows there are, beside what serves; a short step swaps it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from services.retriever.backends.faiss.coarse import Coarse
from services.retriever.backends.faiss.options import Options
from services.retriever.backends.faiss.segment import Segment


class FaissBuild:
    """Of the rows a segment has now: its files only grow, so that the builder may read them meanwhile."""

    def __init__(
        self,
        segment: Segment,
        dimensions: int,
        previous: Path | None,
        options: Options,
        adopted: Callable[[str, Coarse], None],
    ) -> None:
        """previous: the index to add rows to. adopted: told the file's name in the segment and what it holds."""
        self._rows = segment.rows
        self._path = segment.directory / f"index-{segment.rows}.faiss"
        self._dimensions = dimensions
        self._previous = previous
        self._options = options
        self._adopted = adopted
        self._done = False

    @property
    def command(self) -> Sequence[str]:
        task = {
            "parent": os.getpid(),
            "generation": str(self._path.parent.parent),
            "vectors": str(self._path.with_name("vectors.bin")),
            "rows": self._rows,
            "dimensions": self._dimensions,
            "kind": self._options.kind,
            "previous": str(self._previous) if self._previous else None,
            "path": str(self._path),
        }
        return ("-m", "services.retriever.backends.faiss.builder", json.dumps(task))

    def prepare(self) -> Generator[bool]:
        yield from ()  # the files only grow: nothing need be copied

    def adopt(self) -> Generator[bool]:
        coarse = Coarse.read(self._path, self._options)
        yield True
        self._adopted(self._path.name, coarse)
        self._done = True
        yield True

    def abandon(self) -> None:
        if not self._done:
            for path in (self._path, self._path.with_suffix(".new")):
                path.unlink(missing_ok=True)
