"""llama.cpp in this process."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import xllamacpp

from services.common.errors import InvalidRequest
from services.common.models import ModelCache, ModelKind, find, load_manifest
from services.common.nodes.generator import Chunk, Prompt, Stats
from services.generator.adapters import Permanent
from services.generator.backends.completions import Event, body, chunks
from services.generator.backends.slots import SlotPool
from services.generator.settings import GeneratorSettings

_MOST_THREADS = 8
_BATCH_TOKENS = 64
_QUIET = -1


def open_backend(settings: GeneratorSettings) -> LlamaCppBackend:
    """The settings' model, from the cache. Raises ModelNotFound where it has not been pulled."""
    return LlamaCppBackend(load(settings), settings)


def load(settings: GeneratorSettings, key: str = "") -> xllamacpp.Server:
    """The model in memory, its slots empty. Raises ModelNotFound, or InvalidRequest where an adapter is missing.

    The engine also listens on a port of loopback; it lets in who has `key`, by default nobody.
    """
    assert settings.models_dir is not None
    model = find(load_manifest(settings.models_manifest), settings.generator_model, ModelKind.GENERATOR)
    file = ModelCache(settings.models_dir).path(model) / model.files[0].name
    for name, entry in settings.generator_adapters.items():
        if not Path(entry.source).is_file():
            raise InvalidRequest(f"adapter {name!r}: {entry.source} is no file; give the path of a GGUF")
    params = _params(file, settings)
    params.api_keys = [key or secrets.token_urlsafe()]
    return xllamacpp.Server(params)


class LlamaCppBackend:
    """A loaded model with its adapters; each slot decodes one prompt at a time."""

    def __init__(self, server: xllamacpp.Server, settings: GeneratorSettings) -> None:
        self._server = server
        self._slots = settings.generator_slots
        self._adapters = tuple(settings.generator_adapters)
        self._name = settings.generator_model
        self._prefix_cache = bool(settings.generator_prefix_cache)
        self._pool = SlotPool(self._slots)
        self._threads = ThreadPoolExecutor(self._slots, thread_name_prefix="decode")

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def model(self) -> str:
        return self._name

    @property
    def adapters(self) -> Permanent:
        return Permanent(self._adapters)

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        slot, warm = await self._pool.acquire((prompt.tenant, prompt.adapter), _plain(prompt))
        stream = _Stream(asyncio.get_running_loop())
        request = {
            **_request(prompt),
            **self._lora(prompt),
            "id_slot": slot.number,
            "cache_prompt": warm and self._prefix_cache,
        }
        decoding = stream.loop.run_in_executor(self._threads, self._decode, request, stream)
        # The slot is lent until the engine has let go of it, which may be a batch later than the caller.
        decoding.add_done_callback(lambda _: self._pool.release(slot))
        try:
            async with aclosing(chunks(stream.events())) as given:
                async for chunk in given:
                    self._pool.turns.count(chunk)
                    yield chunk
            # Soon, as the events have ended; then the slot, with all it holds of this prompt, is free for the next.
            await decoding
        finally:
            stream.closed.set()

    def _decode(self, request: Mapping[str, Any], stream: _Stream) -> None:
        """In a thread: the engine calls `stream.put` without the interpreter lock held in between."""
        try:
            self._server.handle_chat_completions(dict(request), stream.put)
        except Exception as error:
            stream.put({"error": {"code": 500, "message": str(error)}})
        stream.put(None)

    def _lora(self, prompt: Prompt) -> Event:
        if not self._adapters:
            return {}
        scales = [{"id": number, "scale": float(name == prompt.adapter)} for number, name in enumerate(self._adapters)]
        return {"lora": scales}

    async def stats(self) -> Stats:
        return self._pool.turns.stats()

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        del self._server


class _Stream:
    """Events from a decoding thread to the loop. Once `closed` is set the engine stops at its next event."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.closed = threading.Event()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    def put(self, event: Event | None) -> bool:
        """In the thread: hand over an event; True tells the engine to stop."""
        if not self.closed.is_set():
            try:
                self.loop.call_soon_threadsafe(self._events.put_nowait, event)
            except RuntimeError:  # the loop was closed under us
                return True
        return self.closed.is_set()

    async def events(self) -> AsyncGenerator[Event, None]:
        while (event := await self._events.get()) is not None:
            yield event


def _plain(prompt: Prompt) -> str:
    return "\0".join(message.content for message in prompt.messages)


def _request(prompt: Prompt) -> Event:
    # An event per batch of the prompt, so that a closed stream is noticed before the first token.
    return {**body(prompt), "return_progress": True}


def _params(file: Path, settings: GeneratorSettings) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {settings.generator_model}
    params.n_parallel = settings.generator_slots
    params.n_ctx = settings.generator_context_tokens * settings.generator_slots
    params.n_batch = params.n_ubatch = settings.generator_batch_tokens or _BATCH_TOKENS
    threads = settings.generator_threads or min(os.cpu_count() or 1, _MOST_THREADS)
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = threads
        cpu.poll = 0  # waiting threads sleep: spinning ones take the other nodes' time
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    # No second cache behind the slots: it would be shared by all tenants.
    params.cache_ram_mib = 0
    params.verbosity = _QUIET
    params.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(entry.source, 0.0) for entry in settings.generator_adapters.values()
    ]
    return params
