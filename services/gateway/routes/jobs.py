"""/v1/jobs: how far ingestion is, and how it is stopped and taken up again."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.catalog import jobs
from services.gateway import retrying
from services.gateway.caller import Ingesting, Streaming
from services.gateway.context import Using
from services.gateway.job_view import job_json, progress, read
from services.gateway.listening import stream
from services.gateway.parameters import JobId
from services.gateway.refusals import refuses
from services.gateway.shapes import JobBody, Taken, gives, streams

router = APIRouter(tags=["jobs"])

State = Literal["queued", "running", "done", "failed", "cancelled"]


@router.get("/v1/jobs")
async def show_all(
    using: Using, caller: Ingesting, limit: Annotated[int, Query(ge=1, le=1_000)] = 20, state: State | None = None
) -> dict[str, Any]:
    """The newest jobs, or the newest in a state: `failed` lists what needs a look, each with its reason."""

    def within() -> list[jobs.Job]:
        with using.catalog.read() as tx:
            return jobs.newest(tx, caller.tenant, limit, state)

    return {"jobs": [job_json(job) for job in await asyncio.to_thread(within)]}


@router.get("/v1/jobs/{job_id}", response_model=None, responses={**refuses(404), **streams(JobBody)})
async def show(
    job_id: JobId, request: Request, using: Using, caller: Ingesting, streaming: Streaming
) -> Response | dict[str, Any]:
    """A job; for a client that accepts text/event-stream, its progress up to its end."""
    job = await read(using, caller.tenant, job_id)
    if "text/event-stream" in request.headers.get("accept", ""):
        await streaming()
        return stream(progress(using, job))
    return job_json(job)


@router.post("/v1/jobs/{job_id}/cancel", responses={**refuses(404, 409), **gives(Taken)})
async def cancel(job_id: JobId, using: Using, caller: Ingesting) -> dict[str, Any]:
    """End a job. What it has committed stays; from now on it commits nothing more."""

    def within() -> jobs.Job:
        with using.catalog.write() as tx:
            return jobs.cancel(tx, caller.tenant, job_id)

    return {"job": job_json(await asyncio.to_thread(within))}


@router.post("/v1/jobs/{job_id}/retry", status_code=202, responses={**refuses(404, 409), **gives(Taken, 202)})
async def retry(job_id: JobId, using: Using, caller: Ingesting, failed: bool = False) -> dict[str, Any]:
    """Let a failed or cancelled job go on where it stood; `failed`: try the rows again that failed in one that is done.

    The latter is a new job.
    """
    return {"job": await (retrying.retry_failed if failed else retrying.resume)(using, caller.tenant, job_id)}
