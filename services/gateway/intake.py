"""What documents and facts have in common on their way in: JSON or multipart, then a job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from services.common.errors import InvalidRequest
from services.gateway.auditing import audited
from services.gateway.bodies import FORM, read_json, within
from services.gateway.caller import Caller, Scope
from services.gateway.context import Context
from services.gateway.uploads import File, Intake, files_of, rows_file, take_in

_MOST_FIELDS = 16
_FRAMING_BYTES = 1024 * 1024
"""What boundaries and part headers may take beside the files themselves."""


@dataclass(frozen=True, slots=True)
class Door:
    """What one kind of row comes in as: a JSON model with the rows in a field named `kind`, or a form with files."""

    kind: str
    json: type[BaseModel]
    form: type[BaseModel]
    suffixes: tuple[str, ...]


async def receive(request: Request, context: Context, caller: Caller, door: Door) -> JSONResponse:
    """202 with the job, whichever way the rows come. Only an administrator imports a history."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
        job = await _from_form(request, context, caller, door)
    else:
        job = await _from_json(request, context, caller, door)
    return JSONResponse({"job": job}, 202, {"Location": f"/v1/jobs/{job['id']}"})


async def _from_json(request: Request, context: Context, caller: Caller, door: Door) -> dict[str, Any]:
    body = await read_json(request, door.json, context.settings.max_upload_bytes)
    fields = body.model_dump(exclude_none=True)
    rows = fields.pop(door.kind)
    return await _taken(
        request, context, caller, Intake(caller.tenant, door.kind, **fields), [rows_file(f"{door.kind}.jsonl", rows)]
    )


async def _from_form(request: Request, context: Context, caller: Caller, door: Door) -> dict[str, Any]:
    async with _form(request, context) as form:
        given = {name: value for name, value in form.items() if name != "files" and value != ""}
        fields = door.form.model_validate(given).model_dump()
        files: list[File] = files_of(form, door.suffixes, context.settings.max_upload_bytes)
        return await _taken(request, context, caller, Intake(caller.tenant, door.kind, **fields), files)


async def _taken(
    request: Request, context: Context, caller: Caller, intake: Intake, files: list[File]
) -> dict[str, Any]:
    """The job. A history is imported by an administrator, and that is on record. Raises Forbidden."""
    if not intake.history:
        return await take_in(context, intake, files)
    caller.require(Scope.ADMIN)
    async with audited(request, context, caller) as entry:
        entry.note(intake.collection, history=True)
        return await take_in(context, intake, files)


@asynccontextmanager
async def _form(request: Request, context: Context) -> AsyncIterator[FormData]:
    """The form, its larger files on disk while it is open."""
    settings = context.settings
    limited = Request(request.scope, within(request, settings.max_upload_bytes + _FRAMING_BYTES))
    try:
        form = await limited.form(max_files=settings.max_upload_files, max_fields=_MOST_FIELDS)
    except (MultiPartException, HTTPException) as error:
        reason = error.message if isinstance(error, MultiPartException) else error.detail
        raise InvalidRequest(f"the form cannot be read: {reason}") from None
    try:
        yield form
    finally:
        await form.close()
