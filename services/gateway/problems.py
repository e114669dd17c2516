"""Errors as responses: RFC 9457 problem details, and OpenAI's shape where an OpenAI client listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from services.common.errors import ERRORS, AlmanacError, Internal, InvalidRequest, Unavailable

log = structlog.get_logger()

PROBLEM = "application/problem+json"
RETRY_SECONDS = 2
_OPENAI_PATHS = ("/v1/chat/", "/v1/models")
_NAMED = 5
"""How many wrong fields a detail names."""


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(AlmanacError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(ValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _catalog)


def respond(error: AlmanacError, path: str) -> Response:
    """The error as the response to a request for `path`."""
    problem = error.problem()
    headers = {**({"Retry-After": str(RETRY_SECONDS)} if error.http_status == 503 else {}), **error.headers}
    if path.startswith(_OPENAI_PATHS):
        return JSONResponse(openai_error(problem), error.http_status, headers)
    return JSONResponse(problem, error.http_status, headers, PROBLEM)


def openai_error(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Problem details as OpenAI spells an error."""
    kind = "server_error" if problem["status"] >= 500 else "invalid_request_error"
    code = str(problem["type"]).rpartition(":")[2]
    return {"error": {"message": problem["detail"], "type": kind, "param": None, "code": code}}


def from_problem(problem: Mapping[str, Any]) -> AlmanacError:
    """The error that problem details describe."""
    kind = ERRORS.get(str(problem["type"]).rpartition(":")[2], Internal)
    return kind(str(problem["detail"]))


def unexpected(path: str) -> Response:
    """The response to what nobody foresaw; the log has the rest."""
    return respond(Internal("the gateway failed unexpectedly; its log says why"), path)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, AlmanacError)
    if error.http_status == 500:
        log.error("request_failed", path=request.url.path, error=error.type, detail=error.detail)
    return respond(error, request.url.path)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | ValidationError)
    return respond(InvalidRequest(describe(error.errors())), request.url.path)


async def _http(request: Request, error: Exception) -> Response:
    """What the router itself refuses: 404 and 405."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    detail = {404: f"there is nothing at {path[:128]}", 405: f"{path[:128]} does not take {request.method}"}
    problem = {
        "type": "about:blank",
        "title": str(error.detail),
        "status": error.status_code,
        "detail": detail.get(error.status_code, str(error.detail)),
    }
    if path.startswith(_OPENAI_PATHS):
        return JSONResponse(openai_error(problem), error.status_code, error.headers)
    return JSONResponse(problem, error.status_code, error.headers, PROBLEM)


async def _catalog(request: Request, error: Exception) -> Response:
    log.error("catalog_failed", path=request.url.path, reason=str(error))
    return respond(Unavailable("the catalog does not answer; its log and the gateway's say why"), request.url.path)


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
