"""/v1/jobs: how far ingestion is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.catalog import jobs
from services.gateway.context import Context, Using
from services.gateway.listening import HEARTBEAT, sse, stream
from services.orchestrator.graph.answer import iso

router = APIRouter(tags=["jobs"])

_LOOK_SECONDS = 0.25
_COUNTS = {
    "documents": ("documents", "versions", "passages", "encoded", "skipped", "failed"),
    "facts": ("facts", "skipped", "failed"),
}


@router.get("/v1/jobs")
async def show_all(using: Using, limit: Annotated[int, Query(ge=1, le=1_000)] = 20) -> dict[str, Any]:
    """The newest jobs."""

    def read() -> list[jobs.Job]:
        with using.catalog.read() as tx:
            return jobs.newest(tx, using.settings.tenant, limit)

    return {"jobs": [job_json(job) for job in await asyncio.to_thread(read)]}


@router.get("/v1/jobs/{job_id}", response_model=None)
async def show(job_id: str, request: Request, using: Using) -> Response | dict[str, Any]:
    """A job; for a client that accepts text/event-stream, its progress up to its end."""
    job = await _read(using, job_id)
    if "text/event-stream" in request.headers.get("accept", ""):
        return stream(_progress(using, job))
    return job_json(job)


def job_json(job: jobs.Job) -> dict[str, Any]:
    """A job as the API shows it; a count that does not belong to its kind is shown where it is not zero."""
    usual = _COUNTS.get(job.kind, ())
    more = {name: count for name, count in job.counts.items() if count and name not in usual}
    return {
        "id": job.job_id,
        "kind": job.kind,
        "collection": job.collection,
        "state": job.state,
        "total": job.total,
        "done": job.cursor,
        "counts": {**{name: job.counts.get(name, 0) for name in usual}, **more},
        "failures": list(job.failures),
        "error": job.error or None,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.updated_at),
    }


async def _progress(context: Context, job: jobs.Job) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    yield sse("progress", job_json(job))
    told, told_at = _shown(job), clock()
    while job.state not in jobs.FINISHED:
        await asyncio.sleep(_LOOK_SECONDS)
        job = await _read(context, job.job_id)
        if _shown(job) != told:
            yield sse("progress", job_json(job))
            told, told_at = _shown(job), clock()
        elif clock() - told_at >= context.settings.heartbeat_seconds:
            yield HEARTBEAT
            told_at = clock()
    yield sse("done", job_json(job))


def _shown(job: jobs.Job) -> tuple[object, ...]:
    """What a change of is worth an event; a renewed lease is none."""
    return job.state, job.cursor, job.total, dict(job.counts), job.error


async def _read(context: Context, job_id: str) -> jobs.Job:
    def read() -> jobs.Job:
        with context.catalog.read() as tx:
            return jobs.get(tx, context.settings.tenant, job_id)

    return await asyncio.to_thread(read)
