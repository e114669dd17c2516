"""How much a stack needs: the model of docs/capacity.md, by what `benchmarks/capacity.py` measured on one machine."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.errors import InvalidRequest

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class PerPassage:
    """Bytes that one passage of some 120 words takes on disk, by what holds it, and in the retriever's memory."""

    catalog: int = 3_700
    vectors: int = 2_200
    index: int = 3_100
    memory: int = 1_400


@dataclass(frozen=True, slots=True)
class PerQuestion:
    """Processor seconds of one question, by process, quoted and not generated."""

    gateway: float = 0.012
    worker: float = 0.026
    encoder: float = 0.208
    retriever: float = 0.007
    features: float = 0.001


@dataclass(frozen=True, slots=True)
class Model:
    """What a decoder's key-value cache depends on; `number_bytes` of one number: 2 for float16 and bfloat16."""

    layers: int
    kv_heads: int
    head_dim: int
    number_bytes: int = 2

    @classmethod
    def read(cls, config: Path) -> Model:
        """Of a `config.json` as transformers writes it. Raises InvalidRequest where something is missing."""
        try:
            told: dict[str, Any] = json.loads(config.read_text())
            heads = int(told["num_attention_heads"])
            head_dim = told.get("head_dim") or int(told["hidden_size"]) // heads
            return cls(int(told["num_hidden_layers"]), int(told.get("num_key_value_heads") or heads), int(head_dim))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f"{config} does not tell a decoder's shape: {error!r}") from error

    def cache_bytes(self, tokens: int) -> int:
        """Of the key-value cache: a key and a value for each layer, head and token (Pope et al., 2022)."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.number_bytes * tokens


def storage(passages: int, measured: PerPassage | None = None) -> dict[str, int]:
    """MiB for so many passages: on disk by what holds them, and the retriever's memory."""
    each = measured or PerPassage()
    sizes = {"catalog": each.catalog, "vectors": each.vectors, "index": each.index, "memory": each.memory}
    return {name: math.ceil(passages * size / _MIB) for name, size in sizes.items()}


def cores(questions: float, load: float = 0.7, measured: PerQuestion | None = None) -> dict[str, float]:
    """Cores by process for so many questions a second, each kept at `load` so that waiting stays short."""
    each = measured or PerQuestion()
    return {name: round(questions * getattr(each, name) / load, 2) for name in each.__dataclass_fields__}


def slots(questions: float, seconds: float, load: float = 0.7) -> int:
    """Answers that are decoded at once (Little's law), kept at `load`."""
    return max(1, math.ceil(questions * seconds / load))
