"""prompt → tokens, within bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType

from services.common.errors import DeadlineExceeded, InvalidRequest, Overloaded
from services.common.nodes.generator import Adapter, Chunk, Prompt, Stats
from services.common.rpc.deadlines import remaining
from services.generator.adapters import AdapterEntry, check, names_for
from services.generator.backends import open_backend
from services.generator.backends.base import Backend
from services.generator.metrics import FIRST_CHUNK_SECONDS, count
from services.generator.settings import GeneratorSettings

ROLES = frozenset({"system", "user", "assistant"})
_HOTTEST = 2.0
_MOST_STOPS = 16
_LONGEST_SECONDS = 3600.0
"""An answer without a deadline."""


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

    def __init__(
        self, backend: Backend, limits: Limits = Limits(), adapters: Mapping[str, AdapterEntry] = MappingProxyType({})
    ) -> None:
        self._backend = backend
        self._limits = limits
        self._entries = adapters
        self._admitted = 0
        self._following: asyncio.Future[None] | None = None

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        self._check(prompt)
        if self._admitted >= self._backend.slots + self._limits.queue:
            raise Overloaded(f"{self._admitted} answers are being generated or waiting; try again shortly")
        self._admitted += 1
        began, last = time.perf_counter(), None
        try:
            async with aclosing(_in_time(self._backend.generate(prompt))) as chunks:
                async for chunk in chunks:
                    if last is None:
                        FIRST_CHUNK_SECONDS.observe(time.perf_counter() - began)
                    last = chunk
                    yield chunk
        finally:
            self._admitted -= 1
            if last is not None:
                count(last)

    async def models(self, tenant: str = "") -> list[str]:
        return [self._backend.model, *names_for(tenant, self._entries)]

    async def adapters(self, tenant: str) -> list[Adapter]:
        return [self._backend.adapters.show(name) for name in names_for(tenant, self._entries)]

    async def load(self, tenant: str, adapter: str, pinned: bool = False) -> None:
        check(tenant, adapter, self._entries)
        await self._backend.adapters.load(adapter, pinned)

    async def unload(self, tenant: str, adapter: str) -> None:
        check(tenant, adapter, self._entries)
        await self._backend.adapters.unload(adapter)

    async def stats(self) -> Stats:
        return await self._backend.stats()

    async def start(self) -> None:
        """Load the adapters that the settings pin; let the others come and go from now on."""
        self._following = asyncio.ensure_future(self._backend.adapters.follow())
        for name, entry in self._entries.items():
            if entry.pinned:
                await self._backend.adapters.load(name, pinned=True)

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
        await self._backend.close()

    def _check(self, prompt: Prompt) -> None:
        _check_messages(prompt)
        if not 1 <= prompt.max_tokens <= self._limits.max_tokens:
            raise InvalidRequest(f"max_tokens is {prompt.max_tokens}; ask for 1 to {self._limits.max_tokens}")
        if not 0 <= prompt.temperature <= _HOTTEST:
            raise InvalidRequest(f"temperature is {prompt.temperature}; ask for 0 to {_HOTTEST:g}")
        if len(prompt.stop) > _MOST_STOPS or "" in prompt.stop:
            raise InvalidRequest(f"stop takes up to {_MOST_STOPS} strings, none of them empty")
        if prompt.adapter:
            check(prompt.tenant, prompt.adapter, self._entries)


async def _in_time(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """The chunks that come before the deadline at hand. Raises DeadlineExceeded at it."""
    async with aclosing(chunks):
        while True:
            try:
                async with asyncio.timeout(remaining(_LONGEST_SECONDS)):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise DeadlineExceeded("the answer was not complete in the time allowed") from None
            yield chunk


def _check_messages(prompt: Prompt) -> None:
    if not any(message.content.strip() for message in prompt.messages):
        raise InvalidRequest("the prompt has no text; send at least one message")
    strange = {message.role for message in prompt.messages} - ROLES
    if strange:
        raise InvalidRequest(f"unknown role {min(strange)!r}; roles are system, user and assistant")


def build(settings: GeneratorSettings) -> BoundedGenerator:
    """The generator the settings describe, its model loaded."""
    limits = Limits(settings.generator_max_tokens, settings.generator_queue)
    return BoundedGenerator(open_backend(settings), limits, settings.generator_adapters)
