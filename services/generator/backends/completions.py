"""OpenAI's chat completions, which llama.cpp speaks in process and most servers over HTTP: bodies and events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from services.common.errors import AlmanacError, Internal, InvalidRequest, Unavailable
from services.common.nodes.generator import Chunk, Prompt

Event = dict[str, Any]
"""One chunk of a streamed chat completion, or an error."""

_READ_NOTHING = {"total": 0, "cache": 0}
"""Prompt tokens, and those of them cached, before the engine tells them; llama.cpp does with its first events."""
_OVERFLOWS = ("exceed_context_size_error", "context_length_exceeded")
"""What llama.cpp gives as `type`, and OpenAI as `code`, of a prompt longer than the window."""


def body(prompt: Prompt) -> Event:
    return {
        "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
        "max_tokens": prompt.max_tokens,
        "temperature": prompt.temperature,
        "seed": prompt.seed & 0xFFFFFFFF,
        "stop": list(prompt.stop),
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def chunks(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Chunk, None]:
    """Events as chunks; the usage, which comes last, goes out with the finish reason. Closes the events with itself.

    A server that tells no usage, or none yet, is taken to give a token an event.
    """
    finish, pieces, usage, read = "", 0, None, _READ_NOTHING
    async with aclosing(events):
        async for event in events:
            if "error" in event:
                raise refusal(event["error"])
            read = event.get("prompt_progress") or read
            for choice in event.get("choices", ()):
                finish = choice.get("finish_reason") or finish
                if text := (choice.get("delta") or {}).get("content"):
                    pieces += 1
                    yield Chunk(text, "", read["total"], pieces, read["cache"])
            usage = event.get("usage") or usage
    if not finish:
        raise Unavailable("the engine stopped before the answer was complete; ask again")
    yield _last(finish, usage or {"prompt_tokens": read["total"], "completion_tokens": pieces})


def _last(finish: str, usage: Mapping[str, Any]) -> Chunk:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reason = "length" if finish == "length" else "stop"
    return Chunk("", reason, usage["prompt_tokens"], usage["completion_tokens"], cached)


def refusal(problem: Any) -> AlmanacError:
    """An error object, or whatever came in its place, as ours."""
    told: Mapping[str, Any] = problem if isinstance(problem, Mapping) else {"message": str(problem)}
    message = told.get("message") or "no reason given"
    if told.get("type") in _OVERFLOWS or told.get("code") in _OVERFLOWS or "context length" in str(message):
        read, window = told.get("n_prompt_tokens"), told.get("n_ctx")
        counts = f"has {read} tokens and the window {window}" if read else "is longer than the model's window"
        return InvalidRequest(f"the prompt {counts}; shorten it ({message})")
    kind = InvalidRequest if told.get("code") in (400, "400") else Internal
    return kind(f"the engine refused the prompt: {message}")
