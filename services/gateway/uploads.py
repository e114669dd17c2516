"""Uploads on their way to ingestion: durably stored first, then a job, then a hint on the queue."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import structlog
from starlette.datastructures import FormData, UploadFile

from services.catalog import jobs
from services.common.errors import InvalidRequest, TooLarge, Unavailable
from services.gateway.broker import FAILURES
from services.gateway.context import Context
from services.gateway.job_view import job_json

log = structlog.get_logger()

FACT_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
DOCUMENT_SUFFIXES = (".md", ".markdown", ".txt", ".html", ".htm", ".pdf", ".docx", *FACT_SUFFIXES)
NOT_QUEUED = "the broker does not answer; the job waits in the catalog until a worker finds it"
_LONGEST_NAME = 255
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """A file to be stored: what it is called, and what writes its bytes."""

    name: str
    write: Callable[[BinaryIO], None]


@dataclass(frozen=True, slots=True)
class Intake:
    """Whose an upload is, and what for. `valid_from` is what its rows inherit, `sync` the folder they keep in step."""

    tenant: str
    kind: str
    collection: str
    history: bool
    valid_from: str | None = None
    sync: str | None = None


def files_of(form: FormData, suffixes: Sequence[str], most_bytes: int) -> list[File]:
    """The parts named `files`, in order. Raises InvalidRequest or TooLarge."""
    parts = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
    if not parts or len(parts) < len(form.getlist("files")):
        raise InvalidRequest("files: at least one file is needed, each as a part with a file name")
    total = sum(part.size or 0 for part in parts)
    if total > most_bytes:
        raise TooLarge(f"files: {total} bytes, at most {most_bytes} are allowed in one upload")
    return [_file(part, suffixes) for part in parts]


def _file(part: UploadFile, suffixes: Sequence[str]) -> File:
    name = safe_name(part.filename or "")
    if not name.lower().endswith(tuple(suffixes)):
        raise InvalidRequest(f"files: {name!r} cannot be read; files of these kinds can: {' '.join(suffixes)}")
    return File(name, lambda target: shutil.copyfileobj(part.file, target, _PIECE))


def safe_name(given: str) -> str:
    """A relative name that leads nowhere else, without anything unprintable. Raises InvalidRequest if nothing is left.

    Folders are kept, for documents are named by them; the file itself is stored under a name of ours.
    """
    printable = "".join(character for character in given.replace("\\", "/") if character.isprintable())
    parts = [part.strip() for part in printable.split("/")]
    name = "/".join(part for part in parts if part.strip("."))
    if not name:
        raise InvalidRequest(f"files: {given[:64]!r} is no file name")
    if len(name.encode()) > _LONGEST_NAME:
        raise InvalidRequest(f"files: the name {name[:32]!r}… is longer than {_LONGEST_NAME} bytes")
    return name


def rows_file(name: str, rows: Iterable[Mapping[str, Any]]) -> File:
    """Rows of a JSON request as the JSON Lines file that they might have been."""

    def write(target: BinaryIO) -> None:
        for row in rows:
            target.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    return File(name, write)


async def take_in(context: Context, intake: Intake, files: Sequence[File]) -> dict[str, Any]:
    """The job that ingests the files, as JSON. A broker that is down delays it and is noted."""
    directory = context.settings.uploads_dir / str(uuid.uuid4())
    stored = await asyncio.to_thread(_store, directory, files)
    return await queued(context, await asyncio.to_thread(_create_job, context, intake, directory, stored))


async def queued(context: Context, job: jobs.Job) -> dict[str, Any]:
    """The job as JSON, its hint sent off. A broker that is down delays it and is noted."""
    found = job_json(job)
    try:
        await context.broker.send_job(job.job_id)
    except FAILURES as failure:
        log.warning("job_not_queued", job_id=job.job_id, reason=str(failure))
        found["note"] = NOT_QUEUED
    return found


def _create_job(context: Context, intake: Intake, directory: Path, stored: Sequence[tuple[Path, str]]) -> jobs.Job:
    """The job, named like its upload."""
    inherited = {} if intake.valid_from is None else {"valid_from": intake.valid_from}
    request = {
        "files": [{"path": str(path), "name": name, **inherited} for path, name in stored],
        "kind": intake.kind,
        "valid_from": intake.valid_from,
        "history": intake.history,
        **({"sync": intake.sync} if intake.sync else {}),
    }
    bulk = sum(path.stat().st_size for path, _ in stored) >= context.settings.bulk_bytes
    priority = jobs.BULK if bulk else jobs.SMALL
    here = (intake.tenant, intake.collection, intake.kind)
    with context.catalog.write() as tx:
        return jobs.create(tx, *here, request, job_id=directory.name, priority=priority)


def _store(directory: Path, files: Sequence[File]) -> list[tuple[Path, str]]:
    """Write the files durably, under names of our own. Raises Unavailable where there is no room."""
    try:
        directory.mkdir(parents=True, mode=0o700)
        stored = [(directory / f"{number:04d}", file.name) for number, file in enumerate(files)]
        for (path, _), file in zip(stored, files, strict=True):
            _write(path, file)
        _sync(directory)
        _sync(directory.parent)
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise Unavailable(f"the upload cannot be stored: {error.strerror}") from error
    return stored


def _write(path: Path, file: File) -> None:
    with path.open("xb") as target:
        file.write(target)
        target.flush()
        os.fsync(target.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
