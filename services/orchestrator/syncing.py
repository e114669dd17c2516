"""The end of a job that keeps a folder in step: which documents its files say now."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

from pipelines.load import load
from pipelines.parsers.pool import ParserPool
from pipelines.records import Source
from services.catalog import jobs, syncing
from services.catalog.engine import Database
from services.catalog.records import DocumentIn


def settle(catalog: Database, job: jobs.Job, parsers: ParserPool) -> None:
    """Note the files of a synced folder as taken in; for any other job, nothing. Doing it twice changes nothing."""
    source = job.request.get("sync")
    if not source:
        return
    files = _files(job, parsers)
    with catalog.write() as tx:
        jobs.renew(tx, job.job_id, job.attempts)
        syncing.settle(tx, syncing.Folder(job.tenant, job.collection, source), files)


def _files(job: jobs.Job, parsers: ParserPool) -> list[syncing.SyncedFile]:
    sources = [Source.from_json(file) for file in job.request["files"]]
    said: dict[str, set[str]] = defaultdict(set)
    broken = {failure["source"] for failure in job.failures}
    for loaded in load(sources, False, parsers):
        if isinstance(loaded.row, DocumentIn):
            said[loaded.source].add(loaded.row.doc_id)
        elif loaded.row is None:
            broken.add(loaded.source)
    return [
        syncing.SyncedFile(
            source.name,
            syncing.PARTIAL if source.name in broken else _digest(source.path),
            frozenset(said[source.name]),
        )
        for source in sources
    ]


def _digest(path: str) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
