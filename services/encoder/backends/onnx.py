"""ONNX Runtime: a BERT-like `model.onnx` beside its `tokenizer.json`, mean-pooled over the attention mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from services.common.models import Model, ModelCache
from services.common.nodes.encoder import Vectors

_MODEL, _TOKENIZER = "model.onnx", "tokenizer.json"


class OnnxBackend:
    """Its figures are MiniLM's on a CPU of two cores: a batch costs 1.8 ms and 0.24 ms a token on each. Two batches at
    once share the session's threads."""

    batch_tokens = 512
    batch_cost = 8

    def __init__(self, cache: ModelCache, threads: int) -> None:
        self._cache = cache
        self._threads = threads or len(os.sched_getaffinity(0))
        self.lanes = min(2, self._threads)

    def reads(self, model: Model) -> bool:
        return {_MODEL, _TOKENIZER} <= {file.name for file in model.files}

    def load(self, model: Model) -> OnnxModel:
        return OnnxModel(self._cache.path(model), model.max_tokens, self._threads)


class OnnxModel:
    packs = False

    def __init__(self, directory: Path, max_tokens: int, threads: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(directory / _TOKENIZER))
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads that spin would take the cores from the nodes beside this one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(directory / _MODEL), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {put.name for put in self._session.get_inputs()}

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def embed(self, batch: Sequence[list[int]]) -> Vectors:
        ids, mask = _padded(batch)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self._session.run(
            ["last_hidden_state"], {name: value for name, value in feeds.items() if name in self._inputs}
        )
        return _mean_pooled(hidden, mask)


def _padded(batch: Sequence[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and attention mask, int64, shape (texts, longest)."""
    ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask


def _mean_pooled(hidden: np.ndarray, mask: np.ndarray) -> Vectors:
    """Unit rows, shape (texts, dimensions), from (texts, longest, dimensions)."""
    summed = np.einsum("tld,tl->td", hidden, mask.astype(np.float32), dtype=np.float32)
    unit: Vectors = summed / np.linalg.norm(summed, axis=1, keepdims=True)
    return unit
