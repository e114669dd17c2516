"""Our errors as gRPC statuses and back, so that a client raises what the server raised."""

from __future__ import annotations

from collections.abc import Iterable

import grpc

from services.common.errors import BY_CODE, ERRORS, AlmanacError, Internal

TYPE_KEY = "almanac-error"
"""Trailing metadata that names the error's `type`."""


def from_rpc_error(error: grpc.aio.AioRpcError) -> AlmanacError:
    """The error a call failed with; a status that is not ours becomes the nearest of ours."""
    named = _named(error.trailing_metadata() or ())
    kind = ERRORS.get(named, BY_CODE.get(error.code(), Internal))
    return kind(error.details() or "")


def told_by_node(error: grpc.aio.AioRpcError) -> bool:
    """Whether the node itself answered with this error: one that it had no part in has no type of ours."""
    return bool(_named(error.trailing_metadata() or ()))


def _named(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    return next((str(value) for key, value in metadata if key == TYPE_KEY), "")
