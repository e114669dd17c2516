"""What the command line names: files, directories and globs, as the uploads they stand for."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from services.admin.render import warn

FACTS = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
DOCUMENTS = (".md", ".markdown", ".txt", ".html", ".htm", ".pdf", ".docx", *FACTS)

Upload = tuple[str, Path]
"""The name a file is sent under, and the file."""


def uploads(paths: Sequence[str], suffixes: Sequence[str] = DOCUMENTS) -> list[Upload]:
    """The files meant, in the order given, directories sorted. What lies in a directory is named from there.

    A link that leads out of its directory is left out, with a warning.
    Raises BadParameter for a path that is not there, a file of another kind, or a directory without any of these kinds.
    """
    found: dict[Path, str] = {}
    for path in paths:
        for name, file in _expand(path, suffixes):
            found.setdefault(file.resolve(), name)
    return [(name, file) for file, name in found.items()]


def _expand(text: str, suffixes: Sequence[str]) -> Iterator[Upload]:
    path = Path(text).expanduser()
    if path.is_dir():
        yield from _directory(path, suffixes)
    elif path.exists():
        if not path.is_file():
            raise typer.BadParameter(f"{text}: neither a file nor a directory")
        if not _is_kind(path, suffixes):
            raise typer.BadParameter(f"{text}: files of these kinds can be read: {' '.join(suffixes)}")
        yield path.name, path
    else:
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - the pattern may be absolute
        if not matches:
            raise typer.BadParameter(f"{text}: no such file or directory, and nothing matches it as a pattern")
        for match in matches:
            if Path(match).is_dir() or _is_kind(Path(match), suffixes):
                yield from _expand(match, suffixes)


def _directory(path: Path, suffixes: Sequence[str]) -> Iterator[Upload]:
    visible = [entry for entry in sorted(path.rglob("*")) if not _hidden(entry.relative_to(path))]
    inside = [entry for entry in visible if not _leaves(entry, path, suffixes)]
    files = [entry for entry in inside if entry.is_file() and _is_kind(entry, suffixes)]
    if not files:
        raise typer.BadParameter(f"{path}: no file of these kinds lies in it: {' '.join(suffixes)}")
    for file in files:
        yield file.relative_to(path).as_posix(), file


def _leaves(entry: Path, directory: Path, suffixes: Sequence[str]) -> bool:
    """Whether it is a link that leads out of the directory, or nowhere; said, if it would have been taken in."""
    if not entry.is_symlink():
        return False
    try:
        target = entry.resolve(strict=True)
    except (OSError, RuntimeError):
        reason = "the link leads nowhere"
    else:
        if target.is_relative_to(directory.resolve()):
            return False
        reason = "the link leads out of the directory"
    if _is_kind(entry, suffixes) or entry.is_dir():
        warn(f"{entry} is left out: {reason}")
    return True


def _is_kind(path: Path, suffixes: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(suffixes))


def _hidden(inside: Path) -> bool:
    return any(part.startswith(".") for part in inside.parts)


def requests(files: Sequence[Upload], most_files: int, most_bytes: int) -> Iterator[list[Upload]]:
    """The files as several requests, none with more than so many files or bytes (a single larger file excepted)."""
    batch: list[Upload] = []
    size = 0
    for upload in files:
        length = _length(upload[1])
        if batch and (len(batch) >= most_files or size + length > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(upload)
        size += length
    if batch:
        yield batch


def _length(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # said when it is read
        return 0


@contextmanager
def steady(batch: Sequence[Upload]) -> Iterator[tuple[list[Upload], list[str]]]:
    """Copies of the files, each as it was at one instant, and what is wrong with those that cannot be copied so."""
    with TemporaryDirectory(prefix="almanac-") as directory:
        copies: list[Upload] = []
        wrong: list[str] = []
        for number, (name, file) in enumerate(batch):
            copy = Path(directory, str(number))
            reason = _copy(file, copy)
            if reason:
                wrong.append(f"{name}: {reason}")
            else:
                copies.append((name, copy))
        yield copies, wrong


def _copy(file: Path, target: Path) -> str:
    """Copy the file; says why it cannot be taken in, if so."""
    try:
        with file.open("rb") as source, target.open("wb") as copy:
            before = os.fstat(source.fileno())
            shutil.copyfileobj(source, copy)
            after = os.fstat(source.fileno())
            whole = copy.tell() == before.st_size
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return "" if whole and same else "changed while it was read; send it again"


def existing(path: Path) -> Path:
    """The file, if it is there; a missing one is wrong use."""
    if not path.is_file():
        raise typer.BadParameter(f"{path}: no such file")
    return path
