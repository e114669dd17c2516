"""/v1/documents: what goes in, and which documents and versions there are."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field, StringConstraints
from sqlalchemy import Row

from services.catalog.reading import collection as collection_row
from services.catalog.reading import document_versions, list_documents, version_text
from services.gateway.bodies import Collection, Identifier, Instant, Strict, documented
from services.gateway.caller import Asking, Ingesting
from services.gateway.context import Using
from services.gateway.ending import end_validity
from services.gateway.intake import Door, receive
from services.gateway.parameters import DocId, InCollection, VersionId
from services.gateway.refusals import refuses
from services.gateway.shapes import Taken, gives
from services.gateway.uploads import DOCUMENT_SUFFIXES
from services.orchestrator.graph.answer import iso

router = APIRouter(tags=["documents"])

Scalar = str | int | float | bool


class Document(Strict):
    """One version of a document."""

    id: Identifier
    title: str | None = None
    text: Annotated[str, StringConstraints(min_length=1)]
    uri: str | None = None
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    metadata: dict[str, Scalar] | None = None
    recorded_at: Instant | None = None


class DocumentsRequest(Strict):
    collection: Collection = "default"
    documents: Annotated[list[Document], Field(min_length=1)]
    history: bool = False


class DocumentsForm(Strict):
    """The fields beside the files."""

    collection: Collection = "default"
    valid_from: Instant | None = None
    history: bool = False
    sync: Collection | None = None


_TEXT_FIELDS = ("doc_id", "version_id", "title", "uri", "metadata", "dated", "pages", "text")

_DOOR = Door("documents", DocumentsRequest, DocumentsForm, DOCUMENT_SUFFIXES)


_GIVEN = {
    "collection": "notes",
    "documents": [{"id": "port/pier", "title": "Pier", "text": "The pier opened in 1911.", "valid_from": "1911-05-01"}],
}


@router.post(
    "/v1/documents",
    status_code=202,
    openapi_extra=documented(DocumentsRequest, _GIVEN, DocumentsForm),
    responses={**refuses(409), **gives(Taken, 202)},
)
async def add(request: Request, using: Using, caller: Ingesting) -> JSONResponse:
    """Take documents in, as JSON or as files (multipart, parts named `files`); a job says how far that is."""
    return await receive(request, using, caller, _DOOR)


@router.get("/v1/documents", responses=refuses(404))
async def show_all(
    using: Using,
    caller: Asking,
    collection: InCollection = "default",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    after: Annotated[str, Query(max_length=512)] = "",
) -> dict[str, Any]:
    """The collection's documents in order of their ids, those after `after`."""

    def read() -> list[Row[Any]]:
        with using.catalog.read() as tx:
            collection_row(tx, caller.tenant, collection)
            return list_documents(tx, caller.tenant, collection, after, limit)

    return {"documents": [dict(row._mapping) for row in await asyncio.to_thread(read)]}


@router.delete("/v1/documents/{doc_id:path}", responses=refuses(404))
async def end(
    doc_id: DocId,
    using: Using,
    caller: Ingesting,
    collection: InCollection = "default",
    valid_to: Annotated[Instant | None, Query(examples=["1950-01-01"])] = None,
) -> dict[str, Any]:
    """End a document's validity, from `valid_to` or from now on; what it said before stays on record."""
    return await end_validity(using, caller.tenant, collection, doc_id, valid_to)


@router.get("/v1/documents/{doc_id:path}/versions", responses=refuses(404))
async def versions(doc_id: DocId, using: Using, caller: Asking, collection: InCollection = "default") -> dict[str, Any]:
    """Every version of a document: when it is valid, and when it was on record."""

    def read() -> list[Row[Any]]:
        with using.catalog.read() as tx:
            collection_row(tx, caller.tenant, collection)
            return document_versions(tx, caller.tenant, collection, doc_id)

    return {"versions": [_version_json(row) for row in await asyncio.to_thread(read)]}


@router.get("/v1/documents/{doc_id:path}/versions/{version_id}", responses=refuses(404))
async def version(
    doc_id: DocId, version_id: VersionId, using: Using, caller: Asking, collection: InCollection = "default"
) -> dict[str, Any]:
    """A version's text as it was parsed: what the offsets of citations count in. `pages` are where pages begin."""

    def read() -> Row[Any]:
        with using.catalog.read() as tx:
            collection_row(tx, caller.tenant, collection)
            return version_text(tx, caller.tenant, collection, doc_id, version_id)

    row = await asyncio.to_thread(read)
    return {name: getattr(row, name) for name in _TEXT_FIELDS}


def _version_json(row: Row[Any]) -> dict[str, Any]:
    spans = ("valid_from", "valid_to", "recorded_from", "recorded_to")
    return {
        "version_id": row.version_id,
        "title": row.title,
        "uri": row.uri,
        **{name: iso(getattr(row, name)) for name in spans},
        "dated": row.dated,
    }
