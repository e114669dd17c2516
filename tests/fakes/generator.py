"""A generator for tests: says what it is told to, at the pace it is told to, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from services.common.errors import AlmanacError, ModelNotFound
from services.common.nodes.generator import Adapter, Chunk, Prompt, Stats
from services.generator.backends.memory import MemoryBackend


class FakeGenerator:
    """`reply` is a text, or a function of the prompt. Raises `failure`, if any, after `fail_after` words.

    `pace` is words a second (0: as fast as possible). `prompts` are those asked, `decoding` how many run now. Of each
    tenant it has an adapter, `of-TENANT`, and all of `adapters`.
    """

    def __init__(
        self,
        reply: str | Callable[[Prompt], str] = "",
        *,
        pace: float = 0.0,
        failure: AlmanacError | None = None,
        fail_after: int = 0,
        adapters: Sequence[str] = (),
    ) -> None:
        self._of_all = adapters
        self.prompts: list[Prompt] = []
        self.held: dict[str, bool] = {}
        script = reply if callable(reply) else lambda prompt: reply
        self._backend = MemoryBackend(script, pace=pace, failure=failure, fail_after=fail_after)

    @property
    def decoding(self) -> int:
        return self._backend.decoding

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        self.prompts.append(prompt)
        async with aclosing(self._backend.generate(prompt)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def models(self, tenant: str = "") -> list[str]:
        return [self._backend.model, *(one.name for one in await self.adapters(tenant))]

    async def adapters(self, tenant: str) -> list[Adapter]:
        names = (f"of-{tenant}", *self._of_all)
        return [Adapter(name, name in self.held, self.held.get(name, False)) for name in names]

    async def load(self, tenant: str, adapter: str, pinned: bool = False) -> None:
        self._check(tenant, adapter)
        self.held[adapter] = pinned or self.held.get(adapter, False)

    async def unload(self, tenant: str, adapter: str) -> None:
        self._check(tenant, adapter)
        self.held.pop(adapter, None)

    async def stats(self) -> Stats:
        return await self._backend.stats()

    def _check(self, tenant: str, adapter: str) -> None:
        if adapter not in (f"of-{tenant}", *self._of_all):
            raise ModelNotFound(f"no adapter {adapter!r} is served; there are: of-{tenant}")
