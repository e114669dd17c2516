"""One question to a stack, as a client that reads the stream sees it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

OVERLOADED = 503


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a question: milliseconds to the first text (of the whole, where there was none) and to the end.

    answer: the record of `done`, None where it was refused or failed. problem: what was wrong, empty where nothing was.
    """

    status: int
    first_ms: float
    ms: float
    answer: Any = None
    problem: str = ""
    retry_after: str = ""

    @property
    def refused(self) -> bool:
        """Turned away at the door, and told when to come again."""
        return self.status == OVERLOADED and bool(self.retry_after)


async def ask(client: httpx.AsyncClient, question: str, collection: str, **fields: Any) -> Told:
    body = {"question": question, "collection": collection, "stream": True, **fields}
    began = time.perf_counter()

    def elapsed() -> float:
        return (time.perf_counter() - began) * 1000

    async with client.stream("POST", "/v1/answers", json=body) as response:
        if response.status_code != httpx.codes.OK:
            detail = (await response.aread()).decode()
            again = response.headers.get("Retry-After", "")
            return Told(response.status_code, elapsed(), elapsed(), problem=detail, retry_after=again)
        kind, first = "", 0.0
        async for line in response.aiter_lines():
            kind = line.removeprefix("event: ") if line.startswith("event: ") else kind
            if not line.startswith("data: "):
                continue
            if kind == "text":
                first = first or elapsed()
            elif kind == "done":
                answer = json.loads(line.removeprefix("data: "))["answer"]
                return Told(response.status_code, first or elapsed(), elapsed(), answer)
            elif kind == "error":
                return Told(response.status_code, first or elapsed(), elapsed(), problem=line)
    return Told(response.status_code, elapsed(), elapsed(), problem="the stream ended without a word")
