"""A generator without a model: it says back the last message, or what its script says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from services.common.errors import AlmanacError, InvalidRequest
from services.common.nodes.generator import Chunk, Prompt, Stats
from services.generator.backends.slots import Turns
from services.generator.residency.holding import OnDemand
from services.generator.residency.keeper import Keeper

Script = Callable[[Prompt], str]

_TOKEN = re.compile(r"\s*\S+|\s+$")


def echo(prompt: Prompt) -> str:
    return prompt.messages[-1].content


class MemoryBackend:
    """A word with the space before it is a token. `failure` is raised once `fail_after` tokens were given."""

    def __init__(
        self,
        script: Script = echo,
        *,
        slots: int = 4,
        context_tokens: int = 2048,
        pace: float = 0.0,
        failure: AlmanacError | None = None,
        fail_after: int = 0,
        keeper: Keeper | None = None,
    ) -> None:
        self.script = script
        self.pace = pace
        self.failure = failure
        self.fail_after = fail_after
        self._context_tokens = context_tokens
        self._slots = slots
        self._turns = Turns(slots)
        self._adapters = OnDemand(keeper=keeper)

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def model(self) -> str:
        return "memory"

    @property
    def adapters(self) -> OnDemand:
        return self._adapters

    @property
    def decoding(self) -> int:
        return self._turns.running

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        read = sum(len(_TOKEN.findall(message.content)) for message in prompt.messages)
        if read >= self._context_tokens:
            raise InvalidRequest(f"the prompt has {read} tokens and the window {self._context_tokens}; shorten it")
        decoding = self._decode(prompt, read)
        async with self._adapters.using(prompt.adapter), self._turns.one(), aclosing(decoding) as chunks:
            async for chunk in chunks:
                self._turns.count(chunk)
                yield chunk

    async def _decode(self, prompt: Prompt, read: int) -> AsyncGenerator[Chunk, None]:
        tokens = _TOKEN.findall(_before_stop(self.script(prompt), prompt.stop))
        given = tokens[: min(prompt.max_tokens, self._context_tokens - read)]
        for number, token in enumerate(given):
            if self.failure is not None and number >= self.fail_after:
                raise self.failure
            await asyncio.sleep(1 / self.pace if self.pace else 0)
            yield Chunk(token, "", read, number + 1)
        if self.failure is not None:
            raise self.failure
        yield Chunk("", "stop" if len(given) == len(tokens) else "length", read, len(given))

    async def stats(self) -> Stats:
        return self._turns.stats()

    async def close(self) -> None:
        pass


def _before_stop(text: str, stop: Sequence[str]) -> str:
    ends = [found for mark in stop if (found := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text
