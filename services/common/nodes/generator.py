"""The generator: prompt → tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat prompt and how to decode it. `tenant` keeps prefix caches apart."""

    tenant: str
    messages: Sequence[Message]
    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    stop: Sequence[str] = ()
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text; the last one carries `finish_reason` ("stop" or "length") and the token counts."""

    text: str
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Generator(Protocol):
    def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        """Stream the completion. Closing the iterator stops the decoding."""
        ...

    async def models(self) -> list[str]:
        """The names of the models and adapters served."""
        ...
