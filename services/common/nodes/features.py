"""The features node: entities + moment → values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.common.nodes.scope import Scope, Stretch

Value = str | int | float | bool

FACTS = "facts"
DOCUMENTS = "documents"
"""The names of the feature views, as `feature_repo` defines them."""


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """An entity's values from `event` (valid time) on, on record since `created`.

    A row that was found nowhere has `found` False and no values.
    """

    entity: str
    found: bool = False
    event: int = 0
    created: int = 0
    values: Mapping[str, Value] = field(default_factory=dict)


class Features(Protocol):
    async def read(self, scope: Scope, view: str, entities: Sequence[str]) -> list[FeatureRow]:
        """For each entity the latest row with event ≤ as_of among those with created ≤ known_at; of rows with the same
        event the last created. Entities are local to the scope's tenant and collection.

        Waits for the watermark like the retriever, then raises BehindWatermark.
        """
        ...

    async def append(self, view: str, stretch: Stretch, batches: AsyncIterator[Sequence[FeatureRow]]) -> int:
        """Append a stretch durably and return the new watermark. Idempotent; a gap is refused with Conflict."""
        ...

    async def position(self, view: str, tenant: str, collection: str) -> int:
        """The watermark of the view for the collection, OPEN_START if never appended to."""
        ...

    async def materialize(self, view: str) -> int:
        """Bring the online store up to the offline one; returns the instant it reached."""
        ...

    async def erase(self, view: str, tenant: str, collection: str, entity: str) -> int:
        """Remove every row of an entity, offline and online; returns how many there were. The watermark stays.

        Durable when it returns, safe to repeat.
        """
        ...

    async def drop(self, view: str, tenant: str, collection: str) -> None:
        """Forget a collection's rows of a view, and its watermark: reads wait until they have been appended anew."""
        ...
