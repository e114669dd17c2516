"""Texts as a sentence-transformers model reads them: in tokens once, ahead of the batch, where its tokenizer allows."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from services.encoder.backends.base import Tokens

_CHARS_PER_TOKEN = 4
"""English prose in common vocabularies; only for models whose tokenizer cannot be asked."""

Features = Mapping[str, Any]
"""What a model's first module gives the next: tensors of a batch by name, shape (texts, longest)."""


class Reader(Protocol):
    def tokens(self, texts: Sequence[str]) -> Sequence[Tokens]:
        """Every text, cut at the window; several threads may ask at once."""
        ...

    def features(self, batch: Sequence[Any]) -> Features:
        """A batch of what `tokens` gave, padded."""
        ...


def reader(model: SentenceTransformer, max_tokens: int) -> Reader:
    """The fast one where it gives what the model's own first module gives, else that module itself."""
    own = _OwnReader(model, max_tokens)
    if own.counter is None or model.tokenizer.pad_token_id is None:
        return own
    fast = FastReader(model.tokenizer, own.counter, _probes(model.tokenizer, max_tokens))
    found = fast.features(fast.tokens(fast.probes))
    return fast if _same(found, model.preprocess(fast.probes)) else own


def _probes(tokenizer: Any, max_tokens: int) -> list[str]:
    """Texts of words that the tokenizer knows, in small and large letters, one longer than the window, one empty."""
    spread = range(0, len(tokenizer), max(1, len(tokenizer) // 32))
    words = str(tokenizer.decode(list(spread), skip_special_tokens=True))
    return [words, words.lower(), words.upper(), f" Ünïcode, {words}\n" * max_tokens, ""]


class FastReader:
    """A tokenizer of words that the model is given nothing beside; padding is done here."""

    def __init__(self, tokenizer: Any, counter: Any, probes: list[str]) -> None:
        self.probes = probes
        self._counter = counter
        self._left = tokenizer.padding_side == "left"
        padding = {
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
            "attention_mask": 0,
        }
        self._padding = {name: padding[name] for name in tokenizer.model_input_names if name in padding}

    def tokens(self, texts: Sequence[str]) -> Sequence[Tokens]:
        found: Sequence[Tokens] = self._counter.encode_batch_fast(list(texts))
        return found

    def features(self, batch: Sequence[Any]) -> Features:
        longest = max(map(len, batch))
        found = {name: np.full((len(batch), longest), fill, np.int64) for name, fill in self._padding.items()}
        for row, text in enumerate(batch):
            given = {"input_ids": text.ids, "token_type_ids": text.type_ids, "attention_mask": text.attention_mask}
            place = slice(longest - len(text), longest) if self._left else slice(len(text))
            for name, values in found.items():
                values[row, place] = given[name]
        return {**{name: torch.from_numpy(values) for name, values in found.items()}, "modality": "text"}


@dataclass(frozen=True, slots=True)
class _Text:
    """A text as it is: the model's own first module reads it, which may be no tokenizer of words."""

    text: str
    tokens: int

    def __len__(self) -> int:
        return self.tokens


class _OwnReader:
    """The model's first module. Its tokenizer keeps padding and truncation in itself: one thread at a time."""

    def __init__(self, model: SentenceTransformer, max_tokens: int) -> None:
        self._model, self._max_tokens = model, max_tokens
        self._reading = threading.Lock()
        self.counter = _counter(model.tokenizer, max_tokens)

    def tokens(self, texts: Sequence[str]) -> Sequence[Tokens]:
        if self.counter is None:
            return [_Text(text, min(len(text) // _CHARS_PER_TOKEN + 1, self._max_tokens)) for text in texts]
        encodings = self.counter.encode_batch_fast(list(texts))
        return [_Text(text, len(encoding)) for text, encoding in zip(texts, encodings, strict=True)]

    def features(self, batch: Sequence[_Text]) -> Features:
        with self._reading:
            found: Features = self._model.preprocess([text.text for text in batch])
        return found


def _counter(tokenizer: Any, max_tokens: int) -> Any:
    """A copy of the tokenizer, cut at the window and never padded; None where the model's cannot be asked."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return None
    counter = copy.deepcopy(fast)
    counter.enable_truncation(max_tokens)
    counter.no_padding()
    return counter


def _same(one: Features, other: Features) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        for name, value in one.items()
    )
