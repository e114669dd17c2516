"""Text → vectors: several models by name, concurrent calls in common batches, queries beside passages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from services.common.errors import DeadlineExceeded, Internal, InvalidRequest, ModelNotFound, TooLarge
from services.common.models import Model, ModelKind, find, load_manifest
from services.common.nodes.encoder import ModelInfo, TextKind, Vectors
from services.common.rpc.deadlines import remaining
from services.encoder.backends import choose
from services.encoder.backends.base import Backend, LoadedModel, Tokens
from services.encoder.batching import Batcher, Limits
from services.encoder.settings import EncoderSettings

MAX_TEXTS = 4096
"""The most texts of one call."""

_NO_DEADLINE_SECONDS = 3600.0

_SHORT_CHARS = 2000
"""So much text is in tokens before another thread would have begun with it."""


class ModelEncoder:
    """Encodes with any of the models served; each is loaded when first asked for, and stays.

    Queries and passages run in threads of their own, so that a query waits for no batch of passages; queries, which are
    short and many, in several lanes. The texts of a call that is cancelled, or whose deadline passes, leave the queue.
    """

    def __init__(self, backend: Backend, served: Mapping[str, Model], limits: Limits | None = None) -> None:
        self._backend = backend
        self._served = dict(served)
        self._loading: dict[str, asyncio.Task[LoadedModel]] = {}
        limits = limits or limits_of(backend)
        each = {TextKind.QUERY: limits, TextKind.PASSAGE: replace(limits, lanes=1)}
        self._threads = {kind: ThreadPoolExecutor(each[kind].lanes, f"encode-{kind}") for kind in TextKind}
        self._batchers = {kind: Batcher(threads, each[kind]) for kind, threads in self._threads.items()}

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(model.name, model.dimensions, model.max_tokens) for model in self._served.values()]

    async def encode(self, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
        entry = self._entry(model)
        if len(texts) > MAX_TEXTS:
            raise TooLarge(f"{len(texts)} texts in one call; send at most {MAX_TEXTS}")
        left = asyncio.timeout(remaining(_NO_DEADLINE_SECONDS))
        try:
            async with left:
                return await self._encode(entry, kind, texts)
        except TimeoutError as error:
            if not left.expired():
                raise
            raise DeadlineExceeded(f"{len(texts)} texts were not encoded in time") from error

    async def _encode(self, entry: Model, kind: TextKind, texts: Sequence[str]) -> Vectors:
        loaded = await self.load(entry.name)
        if not texts:
            return np.empty((0, entry.dimensions), np.float32)
        prompt = entry.query_prompt if kind is TextKind.QUERY else entry.passage_prompt
        tokens = await _tokenized(loaded, [prompt + text for text in texts])
        return await self._batchers[kind].encode(entry.name, loaded, tokens, entry.dimensions)

    async def load(self, model: str) -> LoadedModel:
        """The model in memory, read once however many ask. Raises ModelNotFound where it is not served or not here."""
        entry = self._entry(model)
        if model not in self._loading:
            self._loading[model] = asyncio.create_task(asyncio.to_thread(self._read, entry))
        loading = self._loading[model]
        try:
            return await asyncio.shield(loading)
        except BaseException:
            if loading.done() and self._loading.get(model) is loading:
                del self._loading[model]
            raise

    def close(self) -> None:
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)

    def _entry(self, model: str) -> Model:
        if model not in self._served:
            raise ModelNotFound(f"the encoder does not serve {model!r}; it serves: {', '.join(self._served) or 'none'}")
        return self._served[model]

    def _read(self, entry: Model) -> LoadedModel:
        loaded = self._backend.load(entry)
        dimensions = loaded.embed(loaded.tokenize(["probe"])).shape[1]
        if dimensions != entry.dimensions:
            raise Internal(f"{entry.name} gives {dimensions} dimensions; its manifest says {entry.dimensions}")
        return loaded


async def _tokenized(loaded: LoadedModel, texts: list[str]) -> Sequence[Tokens]:
    if sum(map(len, texts)) <= _SHORT_CHARS:
        return loaded.tokenize(texts)
    return await asyncio.to_thread(loaded.tokenize, texts)


def build(settings: EncoderSettings) -> ModelEncoder:
    """The encoder these settings describe; nothing is loaded yet. Raises ModelNotFound for a name unknown."""
    manifest = load_manifest(settings.models_manifest)
    backend = choose(settings)
    names = settings.encoder_models or [
        model.name for model in manifest.values() if model.kind is ModelKind.ENCODER and backend.reads(model)
    ]
    served = {name: find(manifest, name, ModelKind.ENCODER) for name in (settings.encoder_model, *names)}
    if unread := [name for name, model in served.items() if not backend.reads(model)]:
        raise InvalidRequest(f"the {settings.encoder_backend} backend cannot read {', '.join(unread)}")
    limits = limits_of(backend)
    limits = replace(
        limits,
        texts=settings.encoder_batch_size,
        tokens=settings.encoder_batch_tokens or limits.tokens,
        lanes=settings.encoder_lanes or limits.lanes,
        delay_seconds=settings.encoder_batch_delay_ms / 1000,
    )
    return ModelEncoder(backend, served, limits)


def limits_of(backend: Backend) -> Limits:
    """What suits the backend: a text is not padded by more than a batch of its own would cost."""
    return Limits(tokens=backend.batch_tokens, padding=backend.batch_cost, lanes=backend.lanes)
