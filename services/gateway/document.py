"""The OpenAPI document: what FastAPI finds in the routes, made true where it cannot know.

Bodies are read by the routes themselves, and every error leaves through `problems`, so FastAPI's own 422 never happens
and its routes say nothing of the shape of errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.gateway.problems import PROBLEM, Spelling, spelling
from services.gateway.refusals import HEADERS, TEXT, refuses

_SCHEMAS: dict[Spelling, dict[str, Any]] = {
    Spelling.PROBLEM: {
        "title": "Problem",
        "description": "RFC 9457. `type` is a URN that stays; `detail` is for people.",
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT},
    },
    Spelling.OPENAI: {
        "title": "OpenAIError",
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": TEXT,
                    "type": {"enum": ["invalid_request_error", "server_error"]},
                    "param": {"type": ["string", "null"]},
                    "code": TEXT,
                },
            }
        },
    },
    Spelling.RPC: {
        "title": "RpcError",
        "description": "JSON-RPC 2.0, section 5.1; `data` is the problem, where it is the gateway's own.",
        "type": "object",
        "required": ["jsonrpc", "error"],
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "integer", "null"]},
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"type": "integer"}, "message": TEXT, "data": {}},
            },
        },
    },
}
_NEVER = ("HTTPValidationError", "ValidationError")


def describe_by(app: FastAPI) -> None:
    """Let the application give this document at /openapi.json, made when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every (path, method, operation) of a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for name in _NEVER:
        schemas.pop(name, None)
    schemas |= {schema["title"]: schema for schema in _SCHEMAS.values()}
    for path, _, operation in operations(found):
        _complete(path, operation)
    return found


def _complete(path: str, operation: dict[str, Any]) -> None:
    """The operation with its errors in full, in order of their statuses."""
    told = operation["responses"]
    told.pop("422", None)
    added = refuses(*((400, 408, 413) if "requestBody" in operation else (400,)))
    told = {**{str(status): refusal for status, refusal in added.items()}, **told}
    errors = {one: {**_shaped(path, int(one)), **told[one]} for one in told if int(one) >= 400}
    operation["responses"] = dict(sorted({**told, **errors}.items()))


def _shaped(path: str, status: int) -> dict[str, Any]:
    """What every error of that status has, as the clients of that path read it."""
    spelt = spelling(path)
    headers = {name: {"description": what, "schema": TEXT} for name, what in HEADERS.get(status, {}).items()}
    kind = PROBLEM if spelt is Spelling.PROBLEM else "application/json"
    content = {kind: {"schema": {"$ref": f"#/components/schemas/{_SCHEMAS[spelt]['title']}"}}}
    return {"headers": headers, "content": content} if headers else {"content": content}
