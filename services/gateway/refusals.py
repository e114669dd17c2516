"""What a route may answer in place of what was asked for, as the OpenAPI document says it."""

from __future__ import annotations

from typing import Any

REASONS = {
    400: "The request cannot be understood as it stands; `detail` says what is wrong.",
    401: "No key, or one that is not valid.",
    403: "The key lacks the scope, or the request without a key does not come from this machine.",
    404: "What the request names is not there, or not the tenant's.",
    408: "The body came too slowly.",
    409: "The state of things does not allow it.",
    413: "The body is larger than allowed.",
    429: "More than the key or its tenant may have just now.",
    500: "The gateway's fault, or a node's; the log says why.",
    503: "Something needed does not answer, or is full.",
    504: "Not done in the time allowed.",
}
HEADERS = {
    401: {"WWW-Authenticate": "How to authenticate: Bearer."},
    408: {"Connection": "Closed, for the rest of the body is not read."},
    429: {"Retry-After": "In how many seconds to come back."},
    503: {"Retry-After": "In how many seconds to come back."},
}

TEXT = {"type": "string"}

Responses = dict[int | str, dict[str, Any]]


def refuses(*statuses: int) -> Responses:
    """That a route may answer with these statuses; `services.gateway.document` adds their headers and schemas."""
    return {status: {"description": REASONS[status]} for status in statuses}


REFUSALS = refuses(400, 401, 403, 429, 500, 503)
"""What any route with a caller may answer before it begins."""

ANSWERS = refuses(404, 504)
"""What any route that answers or searches may answer besides."""

EVENT = {
    "description": "Each of the server-sent events; comments among them say that the stream lives.",
    "type": "object",
    "required": ["data"],
    "properties": {"event": TEXT, "id": TEXT, "data": {"type": "string", "contentMediaType": "application/json"}},
}
EVENTS: Responses = {
    200: {"description": "In one piece, or as server-sent events.", "content": {"text/event-stream": {"schema": EVENT}}}
}
"""That a route may answer with server-sent events too."""
