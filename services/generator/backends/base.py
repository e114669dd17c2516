"""What every backend of the generator promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from services.common.nodes.generator import Chunk, Prompt, Stats
from services.generator.adapters import Adapters


class Backend(Protocol):
    """An engine that decodes up to `slots` prompts at once; further ones wait their turn.

    Text comes in pieces as it is decoded. The last chunk, and no other, has a finish reason, and final counts:
    "stop" at the model's own end or before a stop string, which is not given out, "length" at `max_tokens` or the
    window's end. The same prompt at temperature 0, decoded alone, gives the same text; beside others, rounding may
    differ. No cached state of one tenant serves another.

    Closing the iterator returns at once; the decoding ends within a token, or within a batch of the prompt, and
    the slot is then free. Raises InvalidRequest for a prompt longer than the window.
    """

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def slots(self) -> int: ...

    @property
    def adapters(self) -> Adapters: ...

    def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]: ...

    async def stats(self) -> Stats: ...

    async def close(self) -> None:
        """Free the model. Nothing may be decoding."""
        ...
