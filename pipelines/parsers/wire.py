"""Messages between a pool and its workers: JSON behind its length. What a worker sends is data, never code."""

from __future__ import annotations

import json
import struct
from typing import Any

from pipelines.parsers.base import MIB, Limits

HEADER = struct.Struct(">I")


def frame(message: Any) -> bytes:
    """A message as it goes over the pipe."""
    body = json.dumps(message, default=str).encode()
    return HEADER.pack(len(body)) + body


def most_bytes(limits: Limits) -> int:
    """The longest message a worker may send: every character of a text may be escaped."""
    return 6 * limits.text_bytes + 16 * MIB
