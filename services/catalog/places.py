"""Where vector files lie: a local directory, or a prefix of object storage. Either holds immutable files by name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from services.common.errors import Unavailable

_PARTIAL = ".partial"


class Place(Protocol):
    def put(self, name: str, content: pa.Buffer) -> None:
        """Durable when it returns; until then there is no file of that name."""
        ...

    def get(self, name: str) -> pa.Buffer:
        """Raises FileNotFoundError."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def exists(self, name: str) -> bool: ...

    def names(self, before: float) -> list[str]:
        """The files last written before an instant, in seconds since the epoch."""
        ...


class Directory:
    """A local directory, created when first written to."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, name: str, content: pa.Buffer) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        partial = self._directory / f"{name}{_PARTIAL}"
        with partial.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        partial.replace(self._directory / name)
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def get(self, name: str) -> pa.Buffer:
        with pa.memory_map(str(self._directory / name)) as source:
            return source.read_buffer()

    def remove(self, name: str) -> None:
        (self._directory / name).unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        return (self._directory / name).exists()

    def names(self, before: float) -> list[str]:
        found = []
        for path in self._directory.glob("*"):
            with suppress(FileNotFoundError):  # renamed or removed since it was listed
                if path.stat().st_mtime < before:
                    found.append(path.name)
        return found


class ObjectStorage:
    """A prefix that fsspec reaches, such as s3://bucket/prefix; credentials and endpoint come from its own settings.

    Whatever goes wrong there is raised as Unavailable, to be tried again.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self._files, root = url_to_fs(url, use_listings_cache=False)
        self._root = root.rstrip("/")

    def put(self, name: str, content: pa.Buffer) -> None:
        with self._reached():
            self._files.pipe_file(self._path(name), content.to_pybytes())

    def get(self, name: str) -> pa.Buffer:
        with self._reached():
            return pa.py_buffer(self._files.cat_file(self._path(name)))

    def remove(self, name: str) -> None:
        with self._reached():
            if self._files.exists(self._path(name)):
                self._files.rm_file(self._path(name))

    def exists(self, name: str) -> bool:
        with self._reached():
            return bool(self._files.exists(self._path(name)))

    def names(self, before: float) -> list[str]:
        with self._reached():
            found = self._files.find(self._root, detail=True)
            return [path.rpartition("/")[2] for path, told in found.items() if self._written(path, told) < before]

    def _written(self, path: str, told: dict[str, Any]) -> float:
        """S3 says it in the listing; others are asked file by file."""
        return float((told.get("LastModified") or self._files.modified(path)).timestamp())

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            raise Unavailable(f"the object storage of the vector files does not answer: {error}") from error


def open_place(location: Path | str) -> Place:
    """A directory, or object storage where the location is a URL."""
    return ObjectStorage(str(location)) if "://" in str(location) else Directory(Path(location))


def ago(seconds: float) -> float:
    return time.time() - seconds
