"""llama.cpp in this process."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import xllamacpp

from services.common.errors import InvalidRequest
from services.common.models import ModelCache, ModelKind, find, load_manifest
from services.common.nodes.generator import Chunk, Prompt, Stats
from services.generator.backends.completions import Event, body, chunks
from services.generator.backends.llamacpp_servers import Loaded, Servers
from services.generator.backends.slots import Slot, SlotPool
from services.generator.residency.choosing import chosen, size_of, sizes
from services.generator.residency.holding import MODEL, OnDemand
from services.generator.settings import GeneratorSettings

_MOST_THREADS = 8
_BATCH_TOKENS = 64
_QUIET = -1


def open_backend(settings: GeneratorSettings) -> LlamaCppBackend:
    """The settings' model, from the cache, with the pinned adapters; without a pinned model nothing is loaded yet.

    Raises ModelNotFound where it has not been pulled, InvalidRequest where an adapter is missing.
    """
    _check(settings)
    _file(settings)
    if not settings.generator_model_pinned:
        return LlamaCppBackend(None, settings)
    pinned = tuple(name for name, entry in settings.generator_adapters.items() if entry.pinned)
    return LlamaCppBackend(Loaded(load(settings, adapters=pinned), pinned), settings)


def load(settings: GeneratorSettings, key: str = "", adapters: Sequence[str] | None = None) -> xllamacpp.Server:
    """The model in memory with these adapters, or with all; its slots are empty. Raises as `open_backend`.

    The engine also listens on a port of loopback; it lets in who has `key`, by default nobody.
    """
    _check(settings)
    entries = settings.generator_adapters
    sources = [entries[name].source for name in (entries if adapters is None else adapters)]
    params = _params(_file(settings), sources, settings)
    params.api_keys = [key or secrets.token_urlsafe()]
    return xllamacpp.Server(params)


def _file(settings: GeneratorSettings) -> Path:
    assert settings.models_dir is not None
    model = find(load_manifest(settings.models_manifest), settings.generator_model, ModelKind.GENERATOR)
    return ModelCache(settings.models_dir).path(model) / model.files[0].name


def _check(settings: GeneratorSettings) -> None:
    for name, entry in settings.generator_adapters.items():
        if not Path(entry.source).is_file():
            raise InvalidRequest(f"adapter {name!r}: {entry.source} is no file; give the path of a GGUF")


class LlamaCppBackend:
    """A model with its adapters, loaded or not; each slot decodes one prompt at a time."""

    def __init__(self, first: Loaded | None, settings: GeneratorSettings) -> None:
        self._slots = settings.generator_slots
        self._name = settings.generator_model
        self._prefix_cache = bool(settings.generator_prefix_cache)
        self._pool = SlotPool(self._slots)
        self._threads = ThreadPoolExecutor(self._slots, thread_name_prefix="decode")
        self._servers = Servers(lambda adapters: load(settings, adapters=adapters), first)
        self._adapters = _adapters(self._servers, first, settings)

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def model(self) -> str:
        return self._name

    @property
    def adapters(self) -> OnDemand:
        return self._adapters

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        # The adapter first: its server has the model too.
        async with self._adapters.using(prompt.adapter, MODEL), aclosing(self._generate(prompt)) as given:
            async for chunk in given:
                yield chunk

    async def _generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        slot, warm = await self._pool.acquire((prompt.tenant, prompt.adapter), _plain(prompt))
        loaded = self._servers.take()
        stream = _Stream(asyncio.get_running_loop())
        request = {
            **_request(prompt),
            **_lora(prompt, loaded.adapters),
            "id_slot": slot.number,
            "cache_prompt": warm and self._prefix_cache,
        }
        decoding = stream.loop.run_in_executor(self._threads, _decode, loaded, request, stream)
        # The slot is lent until the engine has let go of it, which may be a batch later than the caller.
        decoding.add_done_callback(lambda _: self._release(slot, loaded))
        try:
            async with aclosing(chunks(stream.events())) as given:
                async for chunk in given:
                    self._pool.turns.count(chunk)
                    yield chunk
            # Soon, as the events have ended; then the slot, with all it holds of this prompt, is free for the next.
            await decoding
        finally:
            stream.closed.set()

    def _release(self, slot: Slot, loaded: Loaded) -> None:
        self._pool.release(slot)
        self._servers.give_back(loaded)

    async def stats(self) -> Stats:
        return self._pool.turns.stats()

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        await self._servers.close()


def _adapters(servers: Servers, first: Loaded | None, settings: GeneratorSettings) -> OnDemand:
    """What the servers hold, with what is in the first one already."""
    entries, here = settings.generator_adapters, () if first is None else first.adapters
    held = OnDemand(
        servers.load,
        servers.unload,
        pins=len(entries),
        keeper=chosen(settings),
        sizes={**sizes(entries), MODEL: size_of(_file(settings))},
    )
    if first is not None:
        held.found(MODEL, settings.generator_model_pinned)
    for name in here:
        held.found(name, entries[name].pinned)
    return held


def _decode(loaded: Loaded, request: Mapping[str, Any], stream: _Stream) -> None:
    """In a thread: the engine calls `stream.put` without the interpreter lock held in between."""
    try:
        loaded.server.handle_chat_completions(dict(request), stream.put)
    except Exception as error:
        stream.put({"error": {"code": 500, "message": str(error)}})
    stream.put(None)


def _lora(prompt: Prompt, adapters: Sequence[str]) -> Event:
    if not adapters:
        return {}
    return {"lora": [{"id": number, "scale": float(name == prompt.adapter)} for number, name in enumerate(adapters)]}


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


def _params(file: Path, adapters: Sequence[str], settings: GeneratorSettings) -> xllamacpp.CommonParams:
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
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(source, 0.0) for source in adapters]
    return params
