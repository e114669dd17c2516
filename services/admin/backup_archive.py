"""A backup on disk: a directory, or one uncompressed tar file, with a manifest of every file's SHA-256.

manifest.json           what is in it
catalog/TABLE.jsonl.zst the rows of a table
vectors/ID.parquet      the vector files that the catalog names
uploads/ID/NUMBER       what unfinished jobs still have to take in
erasures.jsonl          the tombstones
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

from services.admin.failures import Failed

Result = TypeVar("Result")
Manifest = dict[str, Any]

MANIFEST, FORMAT = "manifest.json", 1


class Writer:
    """Writes a backup beside its final name; it has that name once it is whole."""

    def __init__(self, target: Path) -> None:
        """Raises Failed where something has that name already. What an earlier try left behind is removed."""
        if target.exists():
            raise Failed(f"{target} exists already; choose another name")
        self._target = target
        self.work = target.with_name(f"{target.name}.partial")
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True, mode=0o700)
        self._whole = self.work / target.name if target.suffix == ".tar" else None
        self._tar = tarfile.open(self._whole, "x") if self._whole else None  # noqa: SIM115
        self.files: dict[str, dict[str, object]] = {}

    def add(self, name: str, write: Callable[[Path], Result]) -> Result:
        """Add a file: `write` is given the path to write it to."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        result = write(path)
        path.chmod(0o600)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        self.files[name] = {"sha256": digest, "bytes": path.stat().st_size}
        if self._tar is None:
            _sync(path)
        else:
            self._tar.add(path, name)
            path.unlink()
        return result

    def finish(self, manifest: Manifest) -> None:
        told = json.dumps({"format": FORMAT, **manifest, "files": dict(sorted(self.files.items()))}, indent=1)
        self.add(MANIFEST, lambda path: path.write_text(told))
        if self._tar is not None and self._whole is not None:
            self._tar.close()
            self._whole.chmod(0o600)
            _sync(self._whole)
            self._whole.rename(self._target)
            shutil.rmtree(self.work)
        else:
            self.work.rename(self._target)
        _sync(self._target.parent)

    def give_up(self) -> None:
        if self._tar is not None:
            with suppress(OSError):  # what it still holds back finds no room either
                self._tar.fileobj.close()
        shutil.rmtree(self.work, ignore_errors=True)


class Reader:
    """A whole backup."""

    def __init__(self, open_file: Callable[[str], BinaryIO]) -> None:
        """Raises Failed for what is no backup, or one of a later format."""
        self.open = open_file
        try:
            with open_file(MANIFEST) as stream:
                self.manifest: Manifest = json.load(stream)
        except (OSError, KeyError, ValueError) as error:
            raise Failed(f"this is no whole backup: its {MANIFEST} cannot be read ({error})") from error
        if self.manifest.get("format") != FORMAT:
            raise Failed(f"the backup has format {self.manifest.get('format')}, not {FORMAT}; upgrade Almanac")

    def names(self, prefix: str) -> list[str]:
        """The files below a directory. Raises Failed for names that lead elsewhere."""
        found = [name for name in self.manifest["files"] if name.startswith(f"{prefix}/")]
        if any(".." in PurePosixPath(name).parts for name in found):
            raise Failed("the manifest names files outside the backup")
        return found

    def verify(self, say: Callable[[str, int, int], None]) -> None:
        """Raises Failed, naming every file that is missing or has another hash."""
        files = self.manifest["files"]
        bad = []
        for number, (name, told) in enumerate(files.items(), start=1):
            if self._digest(name) != told["sha256"]:
                bad.append(name)
            say("files verified", number, len(files))
        if bad:
            raise Failed(f"the backup is damaged: {', '.join(bad[:5])}{' …' if len(bad) > 5 else ''}; nothing restored")

    def _digest(self, name: str) -> str:
        try:
            with self.open(name) as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        except (OSError, KeyError, tarfile.TarError):
            return ""

    def copy(self, name: str, target: Path) -> None:
        """Copy a file out, durably."""
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.open(name) as source, target.open("xb") as sink:
            shutil.copyfileobj(source, sink)
            sink.flush()
            os.fsync(sink.fileno())


@contextmanager
def opened(source: Path) -> Iterator[Reader]:
    """The backup of that name. Raises Failed where there is none."""
    if source.is_dir():
        yield Reader(lambda name: (source / name).open("rb"))
        return
    try:
        with tarfile.open(source, "r:") as tar:

            def member(name: str) -> BinaryIO:
                found = tar.extractfile(name)
                if found is None:
                    raise KeyError(name)
                return found  # type: ignore[return-value]

            yield Reader(member)
    except (OSError, tarfile.TarError) as error:
        raise Failed(f"{source} cannot be read as a backup: {error}") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
