"""Request bodies: read within a limit, then understood strictly. Their fields, shared by several routes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, StringConstraints
from starlette.types import Message, Receive

from services.common.errors import InvalidMoment, InvalidRequest, TooLarge
from services.common.moment import parse_instant

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_IN_THREAD_BYTES = 64 * 1024

FORM = "multipart/form-data"

Body = TypeVar("Body", bound=BaseModel)


class Strict(BaseModel):
    """A body in which an unknown field is a mistake: no field ever names the tenant."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def _is_instant(text: str) -> str:
    try:
        parse_instant(text)
    except InvalidMoment as error:
        raise ValueError(error.detail.removeprefix("instant: ")) from None
    return text


Collection = Annotated[str, StringConstraints(pattern=NAME)]
"""Letters, digits, dots, dashes and underscores, at most 128."""

Instant = Annotated[str, AfterValidator(_is_instant)]
"""An ISO 8601 date or datetime, kept as it was written."""

Identifier = Annotated[StrictStr | StrictInt, Field(union_mode="left_to_right")]

FilterValues = Annotated[list[Annotated[str, StringConstraints(max_length=256)]], Field(min_length=1, max_length=64)]
FilterKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Filters = Annotated[dict[FilterKey, FilterValues], Field(max_length=16)]


async def read_body(request: Request, longest: int) -> bytes:
    """Raises TooLarge as soon as that is known."""
    limited = Request(request.scope, within(request, longest))
    return await limited.body()


def within(request: Request, longest: int) -> Receive:
    """The request's channel, which raises TooLarge once it has carried more bytes than `longest`."""
    refuse = TooLarge(f"the body is larger than {longest} bytes, which is all that is allowed")
    if _declared(request) > longest:
        raise refuse
    carried = 0

    async def receive() -> Message:
        nonlocal carried
        message = await request.receive()
        carried += len(message.get("body", b""))
        if carried > longest:
            raise refuse
        return message

    return receive


def _declared(request: Request) -> int:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


async def read_json(request: Request, model: type[Body], longest: int) -> Body:
    """Raises InvalidRequest where the body is not JSON; pydantic's ValidationError where it is not the model."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidRequest(f"the body is {kind[:64]!r}; send application/json")
    body = await read_body(request, longest)
    if len(body) < _IN_THREAD_BYTES:
        return model.model_validate_json(body)
    return await asyncio.to_thread(model.model_validate_json, body)


def documented(
    model: type[BaseModel], example: Mapping[str, Any], form: type[BaseModel] | None = None
) -> dict[str, Any]:
    """The OpenAPI description of a body read by `read_json`, or of files in a form with these fields beside them."""
    content = {"application/json": {"schema": _schema(model), "examples": {"example": {"value": example}}}}
    if form is not None:
        schema = _schema(form)
        files = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
        schema["properties"]["files"] = files
        content[FORM] = {"schema": {**schema, "required": ["files"]}}
    return {"requestBody": {"required": True, "content": content}}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    inlined: dict[str, Any] = _inlined(schema, schema.pop("$defs", {}))
    return inlined


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}
