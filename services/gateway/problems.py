"""Errors as responses: RFC 9457 problem details, and OpenAI's shape where an OpenAI client listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException

from services.common.errors import ERRORS, AlmanacError, Internal, InvalidRequest, Unavailable

log = structlog.get_logger()

PROBLEM = "application/problem+json"
RETRY_SECONDS = 2
_OPENAI_PATHS = ("/v1/chat/", "/v1/models")
_RPC_PATH = "/mcp"
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603
"""Of JSON-RPC 2.0, section 5.1."""
UNEXPECTED = "the gateway failed unexpectedly; its log says why"
_NAMED = 5
"""How many wrong fields a detail names."""


def add_handlers(app: FastAPI) -> None:
    for kind in (AlmanacError, RequestValidationError, ValidationError, DataError, OperationalError):
        app.add_exception_handler(kind, _told)
    app.add_exception_handler(HTTPException, _http)


def respond(error: AlmanacError, path: str) -> Response:
    """The error as the response to a request for `path`."""
    headers = {**({"Retry-After": str(RETRY_SECONDS)} if error.http_status == 503 else {}), **error.headers}
    return _spelt(error.problem(), path, headers)


class Spelling(StrEnum):
    """How an error is written."""

    PROBLEM = "problem"
    OPENAI = "openai"
    RPC = "rpc"


def spelling(path: str) -> Spelling:
    """How the clients of that path read errors."""
    if path.startswith(_OPENAI_PATHS):
        return Spelling.OPENAI
    return Spelling.RPC if path == _RPC_PATH else Spelling.PROBLEM


def _spelt(problem: Mapping[str, Any], path: str, headers: Mapping[str, str] | None) -> Response:
    status, spelt = problem["status"], spelling(path)
    if spelt is Spelling.OPENAI:
        return JSONResponse(openai_error(problem), status, headers)
    if spelt is Spelling.RPC:
        return JSONResponse(rpc_error(problem), status, headers)
    return JSONResponse(problem, status, headers, PROBLEM)


def openai_error(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Problem details as OpenAI spells an error."""
    kind = "server_error" if problem["status"] >= 500 else "invalid_request_error"
    code = str(problem["type"]).rpartition(":")[2]
    return {"error": {"message": problem["detail"], "type": kind, "param": None, "code": code}}


def rpc_error(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Problem details as JSON-RPC spells an error of a message that was not looked at."""
    code = _INTERNAL_ERROR if problem["status"] >= 500 else _INVALID_REQUEST
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": problem["detail"], "data": problem}}


def from_problem(problem: Mapping[str, Any]) -> AlmanacError:
    """The error that problem details describe."""
    kind = ERRORS.get(str(problem["type"]).rpartition(":")[2], Internal)
    return kind(str(problem["detail"]))


def unexpected(path: str) -> Response:
    """The response to what nobody foresaw; the log has the rest."""
    return respond(Internal(UNEXPECTED), path)


def understood(error: Exception, path: str) -> AlmanacError:
    """The error as a client is told of it; the log has the rest of what is not the client's mistake."""
    match error:
        case AlmanacError():
            if error.http_status == 500:
                log.error("request_failed", path=path, error=error.type, detail=error.detail)
            return error
        case RequestValidationError() | ValidationError():
            return InvalidRequest(describe(error.errors()))
        case DataError():
            return InvalidRequest("the request holds what the catalog cannot hold, a NUL character or a huge number")
        case OperationalError():
            log.error("catalog_failed", path=path, reason=str(error))
            return Unavailable("the catalog does not answer; its log and the gateway's say why")
    log.error("request_failed", path=path, exc_info=error)
    return Internal(UNEXPECTED)


async def _told(request: Request, error: Exception) -> Response:
    path = request.scope["path"]  # `request.url` does not parse with every Host
    return respond(understood(error, path), path)


async def _http(request: Request, error: Exception) -> Response:
    """What the router itself refuses: 404 and 405."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    detail = {404: f"there is nothing at {path[:128]}", 405: f"{path[:128]} does not take {request.method}"}
    problem = {
        "type": "about:blank",
        "title": str(error.detail),
        "status": error.status_code,
        "detail": detail.get(error.status_code, str(error.detail)),
    }
    return _spelt(problem, path, error.headers)


def describe(errors: Sequence[Any]) -> str:
    """What is wrong with which fields, in one line."""
    said = [f"{_place(error['loc'])}: {_reason(error)}" for error in errors[:_NAMED]]
    more = len(errors) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _place(loc: Sequence[int | str]) -> str:
    """documents[3].valid_from, the way JSON is addressed."""
    inside = loc[1:] if loc and loc[0] in ("body", "query", "path") else loc
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inside)
    return text.lstrip(".")[:128] or "the body"


def _reason(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if error["type"] == "missing":
        return "is missing"
    return str(error["msg"]).removeprefix("Value error, ")
