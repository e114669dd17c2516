"""Files that survive a crash: JSON replaced atomically, and records appended to files whose lengths are saved apart."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.common.errors import Unavailable


def save_json(path: Path, value: Any) -> None:
    """Write, fsync, rename, fsync the directory: a crash leaves either the old value or the new."""
    written = path.with_suffix(".new")
    with written.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was created or renamed in the directory survive a crash."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def put_in_place(directory: Path, name: str, by: str) -> None:
    """Give the directory `by` inside another the place and the name of one that may be there."""
    shutil.rmtree(directory / name, ignore_errors=True)
    (directory / by).rename(directory / name)
    sync_directory(directory)


def own(directory: Path) -> int:
    """Take the directory for this process alone until the descriptor is closed. Raises Unavailable where another has
    it."""
    held = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise Unavailable(f"another process has the index at {directory} open; stop it, or use another home") from None
    return held


class AppendedRecords:
    """An append-only file of fixed-size records, read through a memory map.

    What lies beyond `length` records when it is opened, an append that a crash cut short, is dropped.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, length: int) -> None:
        self._dtype = np.dtype(dtype)
        self._file = path.open("a+b")
        self.length = length
        self._cut()
        self._map: mmap.mmap | None = None
        self._view = np.empty(0, self._dtype)

    def append(self, records: npt.NDArray[Any]) -> None:
        """records: of the file's dtype, any shape that holds whole ones."""
        data = np.ascontiguousarray(records)
        try:
            self._file.write(data.tobytes())
            self._file.flush()
        except OSError:
            self._cut()
            raise
        self.length += data.nbytes // self._dtype.itemsize

    def view(self) -> npt.NDArray[Any]:
        """Every record, shape (length,); pages are read when touched."""
        if len(self._view) < self.length:
            self._map = mmap.mmap(self._file.fileno(), self.length * self._dtype.itemsize, access=mmap.ACCESS_READ)
            self._view = np.frombuffer(self._map, self._dtype)
        return self._view

    def read(self, at: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copies of some records, shape (len(at),). Nothing is mapped for it: a page that a map touches stays in memory
        with its 15 neighbours, and mapping them takes twice as long as reading the one record."""
        size = self._dtype.itemsize
        found = np.empty(len(at), self._dtype)
        into, file = found.view(np.uint8).reshape(-1).data, self._file.fileno()
        for place, record in enumerate(at.tolist()):
            os.preadv(file, [into[place * size : (place + 1) * size]], record * size)
        return found

    def let_go(self) -> None:
        """Unmap the pages that were touched; they stay in the system's cache as long as it likes."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _cut(self) -> None:
        os.truncate(self._file.name, self.length * self._dtype.itemsize)
