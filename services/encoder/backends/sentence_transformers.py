"""sentence-transformers: any of its models, on a CPU or a GPU, with the model's own pooling and normalisation."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

# Models come from the cache alone, hashes checked; read by huggingface_hub when it is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Idle threads that spin would take the cores from the nodes beside this one; read by OpenMP when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device

from services.common.errors import InvalidRequest
from services.common.models import Model, ModelCache
from services.common.nodes.encoder import Vectors
from services.encoder.backends.base import Tokens
from services.encoder.backends.packing import Embed, packer, worth_packing
from services.encoder.backends.reading import FastReader, reader

_CPU_BATCH_TOKENS, _CPU_BATCH_COST = 512, 35
"""MiniLM's on a CPU of two cores: a batch costs 8.7 ms and 0.25 ms a token on each."""
_GPU_BATCH_TOKENS, _GPU_BATCH_COST = 16_384, 512
"""About what keeps a GPU busy with a small model; far from what its memory holds."""


class SentenceTransformersBackend:
    def __init__(self, cache: ModelCache, device: str, threads: int) -> None:
        self._cache = cache
        self._device = _device(device)
        self._cores = _Cores(threads or torch.get_num_threads())

    @property
    def batch_tokens(self) -> int:
        return _GPU_BATCH_TOKENS if self._device == "cuda" else _CPU_BATCH_TOKENS

    @property
    def batch_cost(self) -> int:
        return _GPU_BATCH_COST if self._device == "cuda" else _CPU_BATCH_COST

    @property
    def lanes(self) -> int:
        return 1 if self._device == "cuda" else min(2, self._cores.threads)

    def reads(self, model: Model) -> bool:
        names = {file.name for file in model.files}
        return "config.json" in names and any(PurePosixPath(name).suffix == ".safetensors" for name in names)

    def load(self, model: Model) -> TorchModel:
        return TorchModel(self._cache.path(model), model, self._device, self._cores)


class _Cores:
    """The CPU's cores: a batch has all of them, but for those of the batches that are computed meanwhile."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._batches = 0
        self._counting = threading.Lock()

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._counting:
            self._batches += 1
            threads = max(1, self.threads // self._batches)
        torch.set_num_threads(threads)  # of what this thread of Python computes
        try:
            yield
        finally:
            with self._counting:
                self._batches -= 1


class TorchModel:
    """Leading dimensions alone are used only where the manifest says that the model was trained for it."""

    def __init__(self, directory: Path, entry: Model, device: str, cores: _Cores) -> None:
        self._cores = cores
        self._model = SentenceTransformer(str(directory), device=device, local_files_only=True)
        self._model.to(torch.bfloat16 if device == "cuda" else torch.float32).eval()
        self._model.max_seq_length = entry.max_tokens
        self._dimensions = entry.dimensions if entry.matryoshka else None
        self._reader = reader(self._model, entry.max_tokens)
        self._packed = self._packer() if device == "cpu" else None
        self.packs = self._packed is not None

    def tokenize(self, texts: Sequence[str]) -> Sequence[Tokens]:
        return self._reader.tokens(texts)

    def embed(self, batch: Sequence[Any]) -> Vectors:
        with self._cores.shared(), torch.inference_mode():
            found = self._packed(batch) if self._packed and worth_packing(batch) else self._padded(batch)
        vectors = found[:, : self._dimensions].to(torch.float32).cpu().numpy()
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def _padded(self, batch: Sequence[Any]) -> torch.Tensor:
        features = batch_to_device(self._reader.features(batch), self._model.device)
        embeddings: torch.Tensor = self._model(features)["sentence_embedding"]
        return embeddings

    def _packer(self) -> Embed | None:
        if not isinstance(self._reader, FastReader):
            return None
        with torch.inference_mode():
            return packer(self._model, self._padded, self._reader.tokens(self._reader.probes))


def _device(wanted: str) -> str:
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise InvalidRequest("encoder_device is `cuda`, but torch finds no GPU; set it to `auto` or `cpu`")
    return "cuda" if present and wanted != "cpu" else "cpu"
