"""What an encoder backend promises."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any, Protocol

from services.common.models import Model
from services.common.nodes.encoder import Vectors

Tokens = Sized
"""One text as its model reads it, cut at the window; its size is its tokens, with which its cost grows."""


class LoadedModel(Protocol):
    """One model in memory. Both calls block, and may run in several threads at once."""

    packs: bool
    """Whether a batch costs its tokens alone, with no padding for those that are shorter than others."""

    def tokenize(self, texts: Sequence[str]) -> Sequence[Tokens]:
        """Every text in tokens, in order. A text longer than the window counts up to the window."""
        ...

    def embed(self, batch: Sequence[Any]) -> Vectors:
        """One unit-length float32 row per text, in order, for one batch of at least one text that `tokenize` gave.

        A row does not depend on the texts beside it, but for rounding.
        """
        ...


class Backend(Protocol):
    @property
    def batch_tokens(self) -> int:
        """The tokens, padding included, from which on a larger batch is no faster."""
        ...

    @property
    def batch_cost(self) -> int:
        """What a batch costs beside its tokens, in tokens."""
        ...

    @property
    def lanes(self) -> int:
        """How many batches computed side by side keep the device busy."""
        ...

    def reads(self, model: Model) -> bool:
        """Whether the model's files are of the kind this backend can read."""
        ...

    def load(self, model: Model) -> LoadedModel:
        """Read the model from the cache. Raises ModelNotFound where it is not there."""
        ...
