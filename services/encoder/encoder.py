"""Text → vectors: several models by name, in batches of like length, queries beside passages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np

from services.common.errors import Internal, InvalidRequest, ModelNotFound, TooLarge
from services.common.models import Model, ModelKind, find, load_manifest
from services.common.nodes.encoder import ModelInfo, TextKind, Vectors
from services.common.rpc.deadlines import remaining
from services.encoder.backends import choose
from services.encoder.backends.base import Backend, LoadedModel
from services.encoder.settings import EncoderSettings

T = TypeVar("T")

MAX_TEXTS = 4096
"""The most texts of one call."""


class ModelEncoder:
    """Encodes with any of the models served; each is loaded when first asked for, and stays.

    Queries and passages run in a thread each, so that a query waits for no batch of passages. A call that is
    cancelled, or whose deadline passes, stops after the batch at hand.
    """

    def __init__(self, backend: Backend, served: Mapping[str, Model], batch_size: int = 4) -> None:
        self._backend = backend
        self._served = dict(served)
        self._batch_size = batch_size
        self._loading: dict[str, asyncio.Task[LoadedModel]] = {}
        self._threads = {kind: ThreadPoolExecutor(1, f"encode-{kind}") for kind in TextKind}

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(model.name, model.dimensions, model.max_tokens) for model in self._served.values()]

    async def encode(self, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
        entry = self._entry(model)
        if len(texts) > MAX_TEXTS:
            raise TooLarge(f"{len(texts)} texts in one call; send at most {MAX_TEXTS}")
        loaded = await self.load(model)
        vectors = np.empty((len(texts), entry.dimensions), np.float32)
        if not texts:
            return vectors
        prompt = entry.query_prompt if kind is TextKind.QUERY else entry.passage_prompt
        prompted = [prompt + text for text in texts]
        for batch in _batches(await self._run(kind, loaded.lengths, prompted), self._batch_size):
            remaining(default=1.0)
            vectors[batch] = await self._run(kind, loaded.embed, [prompted[row] for row in batch])
        return vectors

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
        dimensions = loaded.embed(["probe"]).shape[1]
        if dimensions != entry.dimensions:
            raise Internal(f"{entry.name} gives {dimensions} dimensions; its manifest says {entry.dimensions}")
        return loaded

    def _run(self, kind: TextKind, work: Callable[[list[str]], T], texts: list[str]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads[kind], partial(work, texts))


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Rows of like length together: what is short is not padded to what is long."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return (order[start : start + size] for start in range(0, len(order), size))


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
    return ModelEncoder(backend, served, settings.encoder_batch_size)
