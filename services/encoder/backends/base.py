"""What an encoder backend promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.common.models import Model
from services.common.nodes.encoder import Vectors


class LoadedModel(Protocol):
    """One model in memory. Both calls block, and may run in two threads at once."""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, cut at the model's window; what a text costs grows with them."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit-length float32 row per text, in order, for one batch of at least one text.

        A text longer than the window counts up to the window. A row does not depend on the texts beside it, but for
        rounding.
        """
        ...


class Backend(Protocol):
    def reads(self, model: Model) -> bool:
        """Whether the model's files are of the kind this backend can read."""
        ...

    def load(self, model: Model) -> LoadedModel:
        """Read the model from the cache. Raises ModelNotFound where it is not there."""
        ...
