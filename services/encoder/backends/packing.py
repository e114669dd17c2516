"""Texts of unlike length in common rows, so that little is padded: a token sees those of its own text alone, and its
position counts from that text's begin (M. Krell et al., Efficient Sequence Packing without Cross-contamination, 2021).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence, Sized
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

_ROW_TOKENS = 96
"""Of a row, where no text is longer: attention over so many costs 4 % of MiniLM, and 16 questions fill 97 % of it."""
_LITTLE = 1 / 16
"""Of the tokens: so much padding costs no more than packing does."""
_AGREES = 1e-4
"""By how much a unit vector's components may differ from those of the text alone."""

Embed = Callable[[Sequence[Any]], torch.Tensor]
"""Sentence embeddings, shape (texts, dimensions), of a batch of texts in tokens."""


def packer(model: SentenceTransformer, padded: Embed, probes: Sequence[Any]) -> Embed | None:
    """Embeds in packed rows; None where a probe's vector is not the one that `padded` gives it alone."""
    expected = torch.nn.functional.normalize(torch.cat([padded([probe]) for probe in probes]), dim=1)
    for offset in (0, (model.tokenizer.pad_token_id or 0) + 1):  # BERT's first position, and RoBERTa's
        try:
            packed = _Packer(model, offset)
            found = torch.nn.functional.normalize(packed(probes), dim=1)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            continue  # the model takes no such mask, or no positions
        if torch.allclose(found, expected, atol=_AGREES):
            return packed
    return None


def worth_packing(batch: Sequence[Sized]) -> bool:
    lengths = [len(text) for text in batch]
    return len(lengths) * max(lengths) > (1 + _LITTLE) * sum(lengths)


class _Packer:
    def __init__(self, model: SentenceTransformer, first_position: int) -> None:
        words, *self._rest = model
        self._words, self._first = words.model, first_position
        self._types = "token_type_ids" in model.tokenizer.model_input_names

    def __call__(self, batch: Sequence[Any]) -> torch.Tensor:
        lengths = [len(text) for text in batch]
        rows = _rows(lengths)
        width = max(sum(lengths[text] for text in row) for row in rows)
        ids, positions, types = np.zeros((3, len(rows), width), np.int64)
        owners = np.full((len(rows), width), -1)
        begins = np.empty(len(batch), np.int64)
        for number, row in enumerate(rows):
            begin = 0
            for text in row:
                place = number, slice(begin, begin + lengths[text])
                ids[place], types[place] = batch[text].ids, batch[text].type_ids
                positions[place] = np.arange(self._first, self._first + lengths[text])
                owners[place], begins[text] = text, number * width + begin
                begin += lengths[text]
        hidden = self._hidden(ids, positions, types, owners)
        return self._pooled(hidden, begins, np.array(lengths))

    def _hidden(self, ids: Any, positions: Any, types: Any, owners: Any) -> torch.Tensor:
        """The tokens' last hidden states, one after the other."""
        given = {"token_type_ids": torch.from_numpy(types)} if self._types else {}
        own = torch.from_numpy(owners[:, None, :, None] == owners[:, None, None, :])
        states: torch.Tensor = self._words(
            input_ids=torch.from_numpy(ids), attention_mask=own, position_ids=torch.from_numpy(positions), **given
        ).last_hidden_state
        return states.flatten(0, 1)

    def _pooled(self, hidden: torch.Tensor, begins: Any, lengths: Any) -> torch.Tensor:
        """What the model's other modules make of each text's own tokens."""
        steps = np.arange(lengths.max())
        present = steps < lengths[:, None]
        tokens = hidden[torch.from_numpy(np.where(present, begins[:, None] + steps, 0))]
        features: dict[str, Any] = {
            "token_embeddings": tokens,
            "attention_mask": torch.from_numpy(present.astype(np.int64)),
        }
        for module in self._rest:
            features = module(features)
        pooled: torch.Tensor = features["sentence_embedding"]
        return pooled


def _rows(lengths: Sequence[int]) -> list[list[int]]:
    """Which texts share a row: the longest first, each where least is (R. Graham's LPT rule, 1969)."""
    wanted = math.ceil(sum(lengths) / max(_ROW_TOKENS, *lengths))
    rows: list[list[int]] = [[] for _ in range(wanted)]
    filled = [(0, row) for row in range(wanted)]
    for text in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        held, row = heapq.heappop(filled)
        rows[row].append(text)
        heapq.heappush(filled, (held + lengths[text], row))
    return rows
