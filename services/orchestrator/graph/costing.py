"""What an answer costs: tokens read and written, texts encoded, and time of the generator's engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from services.common.nodes.encoder import Encoder, ModelInfo, TextKind, Vectors
from services.orchestrator.graph.nodes import Nodes


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens of the prompt and written, texts encoded, milliseconds from the prompt to the end of the model's text."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    encoder_texts: int = 0
    engine_ms: int = 0

    def usage(self) -> dict[str, int]:
        return asdict(self)


NOTHING = Cost()


class CountingEncoder:
    """An encoder that counts the texts it is given."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.texts = 0

    async def encode(self, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
        self.texts += len(texts)
        return await self._encoder.encode(model, kind, texts)

    async def models(self) -> list[ModelInfo]:
        return await self._encoder.models()


def counting(nodes: Nodes) -> tuple[Nodes, CountingEncoder]:
    """The nodes, and what counts the texts that are encoded through them."""
    encoder = CountingEncoder(nodes.encoder)
    return replace(nodes, encoder=encoder), encoder


def saved(usage: Mapping[str, int]) -> dict[str, int]:
    """The usage of an answer that repeats one of this usage: nothing, and what it did not cost again."""
    tokens = sum(usage.get(kind, 0) for kind in ("prompt_tokens", "completion_tokens"))
    texts, ms = usage.get("encoder_texts", 0), usage.get("engine_ms", 0)
    return {**NOTHING.usage(), "saved_tokens": tokens, "saved_texts": texts, "saved_ms": ms}
