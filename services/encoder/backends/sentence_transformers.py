"""sentence-transformers: any of its models, on a CPU or a GPU, with the model's own pooling and normalisation."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

# Models come from the cache alone, hashes checked; read by huggingface_hub when it is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device

from services.common.errors import InvalidRequest
from services.common.models import Model, ModelCache
from services.common.nodes.encoder import Vectors

_CPU_BATCH_TOKENS = 512
_GPU_BATCH_TOKENS = 16_384
"""About what keeps a GPU busy with a small model; far from what its memory holds."""

_CHARS_PER_TOKEN = 4
"""English prose in common vocabularies; only for models whose tokenizer cannot be asked."""


class SentenceTransformersBackend:
    def __init__(self, cache: ModelCache, device: str, threads: int) -> None:
        self._cache = cache
        self._device = _device(device)
        if threads:
            torch.set_num_threads(threads)

    @property
    def batch_tokens(self) -> int:
        return _GPU_BATCH_TOKENS if self._device == "cuda" else _CPU_BATCH_TOKENS

    def reads(self, model: Model) -> bool:
        names = {file.name for file in model.files}
        return "config.json" in names and any(PurePosixPath(name).suffix == ".safetensors" for name in names)

    def load(self, model: Model) -> TorchModel:
        return TorchModel(self._cache.path(model), model, self._device)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text as it is: the model's own first module reads it, which may be no tokenizer of words."""

    text: str
    tokens: int

    def __len__(self) -> int:
        return self.tokens


class TorchModel:
    """Leading dimensions alone are used only where the manifest says that the model was trained for it."""

    def __init__(self, directory: Path, entry: Model, device: str) -> None:
        self._model = SentenceTransformer(str(directory), device=device, local_files_only=True)
        self._model.to(torch.bfloat16 if device == "cuda" else torch.float32).eval()
        self._model.max_seq_length = entry.max_tokens
        self._max_tokens = entry.max_tokens
        self._dimensions = entry.dimensions if entry.matryoshka else None
        # The model's tokenizer keeps padding and truncation in itself: one thread at a time. Lengths have their own.
        self._reading = threading.Lock()
        self._counter = _counter(self._model.tokenizer, entry.max_tokens)

    def tokenize(self, texts: Sequence[str]) -> list[_Text]:
        if self._counter is None:
            return [_Text(text, min(len(text) // _CHARS_PER_TOKEN + 1, self._max_tokens)) for text in texts]
        encodings = self._counter.encode_batch_fast(list(texts))
        return [_Text(text, len(encoding)) for text, encoding in zip(texts, encodings, strict=True)]

    def embed(self, batch: Sequence[_Text]) -> Vectors:
        with self._reading:
            features = self._model.preprocess([text.text for text in batch])
        with torch.inference_mode():
            found = self._model(batch_to_device(features, self._model.device))["sentence_embedding"]
        vectors = found[:, : self._dimensions].to(torch.float32).cpu().numpy()
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def _counter(tokenizer: Any, max_tokens: int) -> Any:
    """A copy of the tokenizer, cut at the window and never padded; None where the model's cannot be asked."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return None
    counter = copy.deepcopy(fast)
    counter.enable_truncation(max_tokens)
    counter.no_padding()
    return counter


def _device(wanted: str) -> str:
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise InvalidRequest("encoder_device is `cuda`, but torch finds no GPU; set it to `auto` or `cpu`")
    return "cuda" if present and wanted != "cpu" else "cpu"
