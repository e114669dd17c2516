"""prompt → tokens, within bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from services.common.errors import InvalidRequest, ModelNotFound, Overloaded
from services.common.nodes.generator import Chunk, Prompt
from services.generator.backends import open_backend
from services.generator.backends.base import Backend
from services.generator.settings import GeneratorSettings

ROLES = frozenset({"system", "user", "assistant"})
_HOTTEST = 2.0
_MOST_STOPS = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_tokens` a request may ask for, and how many requests may wait while all slots decode."""

    max_tokens: int = 512
    queue: int = 32


class BoundedGenerator:
    """A backend behind its bounds.

    `generate` raises InvalidRequest for a prompt that cannot be decoded, ModelNotFound for an adapter not served and
    Overloaded when the queue is full, all before the first chunk.
    """

    def __init__(self, backend: Backend, limits: Limits = Limits()) -> None:
        self._backend = backend
        self._limits = limits
        self._admitted = 0

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        self._check(prompt)
        if self._admitted >= self._backend.slots + self._limits.queue:
            raise Overloaded(f"{self._admitted} answers are being generated or waiting; try again shortly")
        self._admitted += 1
        try:
            async with aclosing(self._backend.generate(prompt)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            self._admitted -= 1

    async def models(self) -> list[str]:
        return list(self._backend.names)

    def _check(self, prompt: Prompt) -> None:
        _check_messages(prompt)
        if not 1 <= prompt.max_tokens <= self._limits.max_tokens:
            raise InvalidRequest(f"max_tokens is {prompt.max_tokens}; ask for 1 to {self._limits.max_tokens}")
        if not 0 <= prompt.temperature <= _HOTTEST:
            raise InvalidRequest(f"temperature is {prompt.temperature}; ask for 0 to {_HOTTEST:g}")
        if len(prompt.stop) > _MOST_STOPS or "" in prompt.stop:
            raise InvalidRequest(f"stop takes up to {_MOST_STOPS} strings, none of them empty")
        adapters = tuple(self._backend.names)[1:]
        if prompt.adapter and prompt.adapter not in adapters:
            raise ModelNotFound(f"no adapter {prompt.adapter!r} is served; there are: {', '.join(adapters) or 'none'}")


def _check_messages(prompt: Prompt) -> None:
    if not any(message.content.strip() for message in prompt.messages):
        raise InvalidRequest("the prompt has no text; send at least one message")
    strange = {message.role for message in prompt.messages} - ROLES
    if strange:
        raise InvalidRequest(f"unknown role {min(strange)!r}; roles are system, user and assistant")


def build(settings: GeneratorSettings) -> BoundedGenerator:
    """The generator the settings describe, its model loaded."""
    return BoundedGenerator(open_backend(settings), Limits(settings.generator_max_tokens, settings.generator_queue))
