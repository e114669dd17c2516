"""Keep a collection in step with a folder: what is new or changed goes in, then what has gone is ended.

Both steps may be repeated: interrupted anywhere, the next run does what is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from services.admin import jobs
from services.admin.client import Gateway, Json
from services.admin.failures import Failed
from services.admin.inputs import Upload, uploads
from services.admin.render import warn

_LONGEST_NAME = 255
_MOST_REMOVED = 1_000


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder here, the collection it is kept in step with, and the name under which that remembers it."""

    path: Path
    collection: str
    name: str

    @property
    def url(self) -> str:
        return f"/v1/collections/{self.collection}/sync/{self.name}"


@dataclass(frozen=True, slots=True)
class Synced:
    """What a run did."""

    folder: Folder
    sent: int
    unchanged: int
    removed: int
    ended: int
    jobs: Sequence[Json]

    def to_json(self) -> Json:
        counts = {name: getattr(self, name) for name in ("sent", "unchanged", "removed", "ended")}
        return {"source": self.folder.name, "collection": self.folder.collection, **counts, **jobs.summary(self.jobs)}

    def told(self) -> str:
        return (
            f"{self.sent} files sent, {self.unchanged} unchanged, {self.removed} removed · {self.ended} documents ended"
        )


def folder(directory: str, collection: str, name: str | None) -> Folder:
    """Raises BadParameter for what is no folder."""
    path = Path(directory).expanduser().resolve()
    if not path.is_dir():
        raise typer.BadParameter(f"{directory}: no such folder")
    return Folder(path, collection, name or f"folder-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}")


def sync(gateway: Gateway, folder: Folder, allow_empty: bool, quiet: bool) -> Synced:
    """One run. Raises Failed where the folder is empty and was not, unless that is allowed."""
    before = gateway.get(folder.url)
    known: Mapping[str, str] = before["files"]
    files = _files(folder)
    if known and not files and not allow_empty:
        raise Failed(f"{folder.path} holds no files, but {len(known)} are known of it; end them with --allow-empty")
    changed = [(name, path) for name, path in files if _changed(path, known.get(name))]
    gone = sorted(set(known) - {name for name, _ in files})
    fields = {"collection": folder.collection, "sync": folder.name}
    ended_jobs = jobs.wait(gateway, jobs.send(gateway, "documents", changed, fields), quiet)
    ended = 0
    if (gone or changed or before["pending"]) and all(job["state"] == "done" for job in ended_jobs):
        ended = _prune(gateway, folder, gone)
    return Synced(folder, len(changed), len(files) - len(changed), len(gone), ended, ended_jobs)


def _files(folder: Folder) -> list[Upload]:
    """The folder's files, without those that cannot be told apart by name once they are sent."""
    try:
        found = uploads([str(folder.path)])
    except typer.BadParameter:  # none of a kind that can be read
        return []
    for name, _ in found:
        if not _plain(name):
            warn(
                f"{name!r} is left out: its name has unprintable characters, backslashes, spaces at an end, or is long"
            )
    return [(name, path) for name, path in found if _plain(name)]


def _plain(name: str) -> bool:
    parts = name.split("/")
    return (
        name.isprintable()
        and "\\" not in name
        and len(name.encode()) <= _LONGEST_NAME
        and all(part == part.strip() and part.strip(".") for part in parts)
    )


def _changed(path: Path, digest: str | None) -> bool:
    """Whether the file is to be sent. One that cannot be read, or is empty just now, says nothing."""
    try:
        with path.open("rb") as stream:
            return path.stat().st_size > 0 and hashlib.file_digest(stream, "sha256").hexdigest() != digest
    except OSError as error:
        warn(f"{path} is left as it was: {error.strerror}")
        return False


def _prune(gateway: Gateway, folder: Folder, gone: Sequence[str]) -> int:
    pieces = [gone[start : start + _MOST_REMOVED] for start in range(0, len(gone), _MOST_REMOVED)] or [[]]
    return sum(gateway.post(folder.url, {"removed": piece})["ended"] for piece in pieces)
