"""What any route with a caller may answer before it begins, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


def _refusal(description: str, **headers: str) -> dict[str, Any]:
    told = {
        name.replace("_", "-"): {"description": what, "schema": {"type": "string"}} for name, what in headers.items()
    }
    content = {"application/problem+json": {"schema": _PROBLEM}, "application/json": {"schema": {"type": "object"}}}
    return {"description": description, "headers": told, "content": content}


REFUSALS: dict[int | str, dict[str, Any]] = {
    401: _refusal("No key, or one that is not valid.", WWW_Authenticate="How to authenticate: Bearer."),
    403: _refusal("The key lacks the scope, or the request without a key does not come from this machine."),
    429: _refusal(
        "More than the key or its tenant may have just now.", Retry_After="In how many seconds to come back."
    ),
}
"""OpenAI's routes say the same in OpenAI's shape, as application/json."""
