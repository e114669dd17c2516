"""The end of a document's validity: recorded at once, shown as soon as the readers have applied it."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from services.catalog.commit import Recorder
from services.catalog.reading import collection as collection_row
from services.catalog.reading import document_versions
from services.common.moment import parse_instant
from services.gateway.broker import FAILURES
from services.gateway.context import Context
from services.orchestrator.graph.answer import iso

log = structlog.get_logger()

NOT_TOLD = "the broker does not answer; the worker's sweeper will bring the index up to date"


async def end_validity(
    context: Context, tenant: str, collection: str, doc_id: str, valid_to: str | None
) -> dict[str, Any]:
    """From `valid_to` on, or from now on, the document says nothing more; what it said before stays on record.

    Raises CollectionNotFound, DocumentNotFound.
    """
    found = await asyncio.to_thread(_end, context, tenant, collection, doc_id, valid_to)
    try:
        await context.broker.send_advance(tenant, collection)
    except FAILURES as failure:
        log.warning("advance_not_queued", collection=collection, reason=str(failure))
        found["note"] = NOT_TOLD
    return found


def _end(context: Context, tenant: str, collection: str, doc_id: str, valid_to: str | None) -> dict[str, Any]:
    at = None if valid_to is None else parse_instant(valid_to, "valid_to")
    with context.catalog.write() as tx:
        collection_row(tx, tenant, collection)
        document_versions(tx, tenant, collection, doc_id)
        recorder = Recorder(tx, tenant, collection)
        ended = recorder.end(doc_id, at)
        recorded = recorder.close()
    return {
        "doc_id": doc_id,
        "collection": collection,
        "ended": ended,
        "valid_to": iso(recorded if at is None else at) if ended else None,
        "recorded_at": iso(recorded),
    }
