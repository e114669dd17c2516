"""Work taken up again: a job from where it stood, or a new one over the rows that failed in a job that is done."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.catalog import jobs
from services.common.errors import Conflict, Unavailable
from services.gateway.context import Context
from services.gateway.job_view import read
from services.gateway.uploads import queued

_DUPLICATE = "duplicate id"
"""How the reason begins for a row that another one stands for; to try that again would make it win."""


async def resume(context: Context, tenant: str, job_id: str) -> dict[str, Any]:
    """The failed or cancelled job, queued again. Raises JobNotFound, Conflict."""

    def within() -> jobs.Job:
        with context.catalog.write() as tx:
            job = jobs.retry(tx, tenant, job_id)
            _require(job.request.get("files", ()))
            return job

    return await queued(context, await asyncio.to_thread(within))


async def retry_failed(context: Context, tenant: str, job_id: str) -> dict[str, Any]:
    """A new job over the rows that failed. Raises JobNotFound; Conflict where there are none or it was done before."""
    job = await read(context, tenant, job_id)
    files = _failed_files(job)
    new_id = str(uuid.uuid4())
    directory = context.settings.uploads_dir / new_id
    linked = await asyncio.to_thread(_linked, files, directory)

    def within() -> jobs.Job:
        with context.catalog.write() as tx:
            _check(jobs.get(tx, job.tenant, job_id))
            jobs.amend(tx, job_id, retried_as=new_id)
            request = {**job.request, "files": linked, "retry_of": job_id}
            return jobs.create(tx, job.tenant, job.collection, job.kind, request, job_id=new_id, priority=job.priority)

    try:
        created = await asyncio.to_thread(within)
    except Exception:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        raise
    return await queued(context, created)


def _check(job: jobs.Job) -> None:
    reasons = {
        f"is {job.state}; only the rows of one that is done are tried again": job.state != jobs.DONE,
        "has no failed rows": not job.counts.get("failed"),
        "imported a history, which cannot be added to; import it anew": bool(job.request.get("history")),
        "keeps a folder in step; repeat `almanac sync`": "sync" in job.request,
        f"was retried already, as job {job.request.get('retried_as')}": "retried_as" in job.request,
    }
    for reason, applies in reasons.items():
        if applies:
            raise Conflict(f"job {job.job_id} {reason}")


def _failed_files(job: jobs.Job) -> list[Mapping[str, Any]]:
    """The files with rows to try again; all of them where the list of failures is cut short."""
    _check(job)
    files: list[Mapping[str, Any]] = list(job.request["files"])
    if len(job.failures) >= job.counts["failed"]:
        names = {one["source"] for one in job.failures if not str(one["reason"]).startswith(_DUPLICATE)}
        files = [file for file in files if file["name"] in names]
    if not files:
        raise Conflict(f"job {job.job_id} has no failed rows but duplicates, whose first ones stand")
    _require(files)
    return files


def _require(files: Sequence[Mapping[str, Any]]) -> None:
    if not all(Path(file["path"]).exists() for file in files):
        raise Conflict("the upload is not kept any more; send the files again")


def _linked(files: Sequence[Mapping[str, Any]], directory: Path) -> list[dict[str, Any]]:
    """The files under an upload of their own, without copying them."""
    try:
        directory.mkdir(parents=True, mode=0o700)
        linked = [{**file, "path": str(directory / Path(file["path"]).name)} for file in files]
        for old, new in zip(files, linked, strict=True):
            os.link(old["path"], new["path"])
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise Unavailable(f"the upload cannot be stored: {error.strerror}") from error
    return linked
