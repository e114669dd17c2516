"""Uploads after their work: gone when nothing failed, else kept for a while, and no more of them than a retry needs."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.catalog import jobs
from services.catalog.engine import Database
from services.common.errors import JobNotFound
from services.common.moment import now

DUPLICATE = "duplicate id"
"""How the reason begins for a row that another one stands for; to try that again would make it win."""
_ORPHAN_US = 3_600_000_000
"""An upload without a job so old belongs to a gateway that died before it had made one."""
_DAY_US = 86_400_000_000


def release(job: jobs.Job) -> None:
    """Delete the upload of a job that is done, unless rows of it failed. A folder that is synced has them still."""
    if not job.counts.get("failed") or "sync" in job.request:
        for directory in _directories(job):
            shutil.rmtree(directory, ignore_errors=True)


def keep_failed(job: jobs.Job) -> None:
    """Reduce the upload to the rows that failed, each in the line where it was. Doing it twice changes nothing."""
    failed = job.counts.get("failed", 0)
    if not failed or failed > len(job.failures) or "sync" in job.request:
        return
    lines = _failed_lines(job.failures)
    for file in job.request.get("files", ()):
        path, name = Path(file["path"]), str(file["name"])
        if name not in lines:
            path.write_bytes(b"")
        elif name.lower().endswith((".jsonl", ".jsonl.gz")):
            _keep_lines(path, lines[name], gzip.open if name.lower().endswith(".gz") else open)


def tidy(catalog: Database, directory: Path, days: float) -> int:
    """Delete the uploads that no job needs any more; returns how many."""
    spent = [upload for upload in directory.iterdir() if _is_spent(catalog, upload, days)] if directory.exists() else []
    for upload in spent:
        shutil.rmtree(upload, ignore_errors=True)
    return len(spent)


def _is_spent(catalog: Database, upload: Path, days: float) -> bool:
    clock = now()
    try:
        with catalog.read() as tx:
            job = jobs.by_id(tx, upload.name)
    except JobNotFound:
        return upload.exists() and clock - upload.stat().st_mtime * 1e6 > _ORPHAN_US
    if job.state not in jobs.FINISHED:
        return False
    settled = job.state == jobs.DONE and (not job.counts.get("failed") or "retried_as" in job.request)
    return settled or clock - job.updated_at > days * _DAY_US


def _directories(job: jobs.Job) -> set[Path]:
    return {Path(file["path"]).parent for file in job.request.get("files", ())}


def _failed_lines(failures: Sequence[Mapping[str, Any]]) -> dict[str, set[int | None]]:
    found: dict[str, set[int | None]] = defaultdict(set)
    for failure in failures:
        if not str(failure["reason"]).startswith(DUPLICATE):
            found[failure["source"]].add(failure["line"])
    return found


def _keep_lines(path: Path, numbers: set[int | None], opener: Any) -> None:
    """Blank every other line: blank ones are passed over, and the numbers stay."""
    kept = path.with_name(f"{path.name}.kept")
    with opener(kept, "wb") as target:
        for line in _blanked(path, numbers, opener):
            target.write(line)
    kept.replace(path)


def _blanked(path: Path, numbers: set[int | None], opener: Any) -> Iterator[bytes]:
    with opener(path, "rb") as stream:
        try:
            for number, line in enumerate(stream, start=1):
                yield line if number in numbers else b"\n"
        except (OSError, EOFError, zlib.error):  # a broken gzip file ends where it breaks
            return
