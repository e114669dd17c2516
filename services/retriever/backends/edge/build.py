"""A build: the shard's directory copied, built by a process of its own, brought up to date, and swapped in."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Protocol

import qdrant_edge as qe

from services.retriever.backends.edge.shard import load_shard, replay

_CHUNK = 4 << 20
"""Bytes copied in one step: some milliseconds."""
_REPLAYED = 512
"""Points in one step; more than a change has, so that whoever writes all the time is caught up with."""


class Built(Protocol):
    """The index that is built."""

    def serving(self) -> qe.EdgeShard: ...

    def written(self, most: int) -> list[qe.PointId]:
        """Takes up to `most` of the points written since the build began."""
        ...

    def adopt(self, name: str, shard: qe.EdgeShard) -> None:
        """Serve from another shard, which is up to date and durable."""
        ...

    def end_build(self) -> None: ...


class EdgeBuild:
    """A build in `directory`, beside the shard `source` that serves."""

    def __init__(self, index: Built, source: Path, directory: Path) -> None:
        self._index = index
        self._source = source
        self._directory = directory

    @property
    def command(self) -> Sequence[str]:
        return ["-m", "services.retriever.backends.edge.builder", str(self._directory), str(os.getpid())]

    def prepare(self) -> Generator[bool]:
        for path in sorted(self._source.rglob("*")):
            target = self._directory / path.relative_to(self._source)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                yield from _copy(path, target)

    def adopt(self) -> Generator[bool]:
        built = load_shard(self._directory)
        assert built is not None
        try:
            yield True
            while True:
                while points := self._index.written(_REPLAYED):
                    replay(self._index.serving(), built, points)
                    yield True
                built.flush()
                yield True
                points = self._index.written(_REPLAYED)
                if not points:
                    break
                replay(self._index.serving(), built, points)
        except BaseException:
            built.close()
            raise
        self._index.adopt(self._directory.name, built)

    def abandon(self) -> None:
        self._index.end_build()


def _copy(source: Path, target: Path) -> Generator[bool]:
    """Copy what a file holds and leave its holes: storages reserve far more than they use."""
    with source.open("rb", buffering=0) as reading, target.open("wb", buffering=0) as writing:
        size = os.fstat(reading.fileno()).st_size
        writing.truncate(size)
        for start, end in _held(reading.fileno(), size):
            for at in range(start, end, _CHUNK):
                os.pwrite(writing.fileno(), os.pread(reading.fileno(), min(_CHUNK, end - at), at), at)
                if end - at > _CHUNK:
                    yield True


def _held(file: int, size: int) -> Generator[tuple[int, int]]:
    """The stretches of a file that are no holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start, end
