"""What the command line names: files, directories and globs, as the uploads they stand for."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

DOCUMENTS = (".md", ".markdown", ".txt", ".jsonl", ".jsonl.gz")
FACTS = (".jsonl", ".jsonl.gz")

Upload = tuple[str, Path]
"""The name a file is sent under, and the file."""


def uploads(paths: Sequence[str], suffixes: Sequence[str] = DOCUMENTS) -> list[Upload]:
    """The files meant, in the order given, directories sorted. What lies in a directory is named from there.

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
        if not path.name.endswith(tuple(suffixes)):
            raise typer.BadParameter(f"{text}: files of these kinds can be read: {' '.join(suffixes)}")
        yield path.name, path
    else:
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - the pattern may be absolute
        if not matches:
            raise typer.BadParameter(f"{text}: no such file or directory, and nothing matches it as a pattern")
        for match in matches:
            if Path(match).is_dir() or match.endswith(tuple(suffixes)):
                yield from _expand(match, suffixes)


def _directory(path: Path, suffixes: Sequence[str]) -> Iterator[Upload]:
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name.endswith(tuple(suffixes)) and not _hidden(file.relative_to(path))
    ]
    if not files:
        raise typer.BadParameter(f"{path}: no file of these kinds lies in it: {' '.join(suffixes)}")
    for file in files:
        yield file.relative_to(path).as_posix(), file


def _hidden(inside: Path) -> bool:
    return any(part.startswith(".") for part in inside.parts)


def requests(files: Sequence[Upload], most_files: int, most_bytes: int) -> Iterator[list[Upload]]:
    """The files as several requests, none with more than so many files or bytes (a single larger file excepted)."""
    batch: list[Upload] = []
    size = 0
    for upload in files:
        length = upload[1].stat().st_size
        if batch and (len(batch) >= most_files or size + length > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(upload)
        size += length
    if batch:
        yield batch


def existing(path: Path) -> Path:
    """The file, if it is there; a missing one is wrong use."""
    if not path.is_file():
        raise typer.BadParameter(f"{path}: no such file")
    return path
