"""The generator: prompt → tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
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
    """A piece of text; the last one carries `finish_reason` ("stop" or "length").

    Token counts are those so far, for a stream may be closed early; 0 while the engine has told none, final in the last
    piece. `cached_tokens` of the prompt's were not computed: a prefix cache held them.
    """

    text: str
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter. A pinned one keeps its place on the device until it is unloaded.

    `size_bytes` of its files. Since the engine's start: how often it was loaded, how many requests waited for a load,
    and for how many seconds it was in memory.
    """

    name: str
    loaded: bool = False
    pinned: bool = False
    size_bytes: int = field(default=0, compare=False)
    loads: int = field(default=0, compare=False)
    cold_starts: int = field(default=0, compare=False)
    resident_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Stats:
    """What the engine is doing, and what it has done since it started.

    `kv_usage` is the share of the key-value cache in use, 0 to 1. Of `prefix_queries` prompt tokens `prefix_hits` came
    from the prefix cache. A preemption takes a running answer's memory for another; it is computed again later.
    """

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0


class Generator(Protocol):
    def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        """Stream the completion. Closing the iterator stops the decoding."""
        ...

    async def models(self, tenant: str = "") -> list[str]:
        """The model's name, then those of the adapters that the tenant may name."""
        ...


class ManagedGenerator(Generator, Protocol):
    """A generator whose adapters are told what to do. An adapter the tenant may not name raises ModelNotFound."""

    async def adapters(self, tenant: str) -> list[Adapter]: ...

    async def load(self, tenant: str, adapter: str, pinned: bool = False) -> None:
        """Load it before it is asked for. Raises Unavailable where its files cannot be loaded, Conflict where too
        many are pinned."""
        ...

    async def unload(self, tenant: str, adapter: str) -> None:
        """Raises Conflict while an answer uses it, or where the engine keeps its adapters as long as it runs."""
        ...

    async def stats(self) -> Stats: ...
