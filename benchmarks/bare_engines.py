"""The generator's engines called by their own interfaces, beside our backend over the same loaded model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, NamedTuple

from benchmarks.common import MissingData
from services.common.errors import InvalidRequest
from services.common.nodes.generator import Prompt
from services.generator.backends import open_backend
from services.generator.backends.base import Backend
from services.generator.settings import GeneratorSettings


class Spoken(NamedTuple):
    """An answer: how many tokens, and seconds to the first text."""

    tokens: int
    first: float


Bare = Callable[[Prompt], Awaitable[Spoken]]


def _opened(settings: GeneratorSettings) -> Any:
    """Raises MissingData where the backend is not installed here."""
    try:
        return open_backend(settings)
    except InvalidRequest as error:
        raise MissingData(error.detail) from error


def llamacpp(settings: GeneratorSettings) -> tuple[Backend, Bare]:
    """Completions of the engine's own server class, a thread each."""
    backend = _opened(settings)
    threads = ThreadPoolExecutor(settings.generator_slots)

    async def bare(prompt: Prompt) -> Spoken:
        loaded = backend._servers.take()
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, _complete, loaded.server, prompt)
        finally:
            backend._servers.give_back(loaded)

    return backend, bare


def _complete(server: Any, prompt: Prompt) -> Spoken:
    began, first, tokens = time.perf_counter(), 0.0, 0

    def take(event: Mapping[str, Any]) -> bool:
        nonlocal first, tokens
        first = first or (time.perf_counter() - began if event["choices"] and _text(event) else 0.0)
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        return False

    messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
    asked = {"messages": messages, "max_tokens": prompt.max_tokens, "temperature": 0.0, "cache_prompt": False}
    server.handle_chat_completions({**asked, "stream": True, "stream_options": {"include_usage": True}}, take)
    return Spoken(tokens, first)


def _text(event: Mapping[str, Any]) -> str:
    return event["choices"][0]["delta"].get("content") or ""


def vllm(settings: GeneratorSettings) -> tuple[Backend, Bare]:
    """The asynchronous engine itself, asked in tokens."""
    backend = _opened(settings)
    engine, numbers = backend._engine, count()

    from vllm import SamplingParams, TokensPrompt
    from vllm.sampling_params import RequestOutputKind

    async def bare(prompt: Prompt) -> Spoken:
        tokens = TokensPrompt(prompt_token_ids=await backend._tokens(prompt))
        params = SamplingParams(max_tokens=prompt.max_tokens, temperature=0.0, output_kind=RequestOutputKind.DELTA)
        began, first, written = time.perf_counter(), 0.0, 0
        async for output in engine.generate(tokens, params, f"bare-{next(numbers)}"):
            first = first or time.perf_counter() - began
            written += len(output.outputs[0].token_ids)
        return Spoken(written, first)

    return backend, bare


BARE: Mapping[str, Callable[[GeneratorSettings], tuple[Backend, Bare]]] = {"llamacpp": llamacpp, "vllm": vllm}
"""Every engine that can be called bare."""
