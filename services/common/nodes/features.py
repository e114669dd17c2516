"""The features node: entities + moment → values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.common.nodes.scope import Scope, Stretch

Value = str | int | float | bool

FACTS = "facts"
DOCUMENTS = "documents"
TENANTS = "tenants"
USERS = "users"
"""The names of the feature views, as `feature_repo` defines them."""

PROFILES = "_profiles"
"""In the place of a collection where rows belong to a whole tenant; no collection can be called that."""


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


@dataclass(frozen=True, slots=True)
class Limits:
    """What a field's definition demands of rows in which something holds. Of text, `least` and `most` bound the length
    in characters."""

    required: bool = False
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class FieldState:
    """What a tenant's rows, those in which something holds, have in a field. `empty`: text without a character."""

    name: str
    type: str
    rows: int = 0
    nulls: int = 0
    empty: int = 0
    least: float = 0.0
    most: float = 0.0
    limits: Limits = Limits()

    @property
    def faults(self) -> list[str]:
        """What breaks the limits, for people."""
        found, limits = [], self.limits
        if limits.required and (self.nulls or self.empty):
            found.append(f"{self.name} is required, and {self.nulls + self.empty} of {self.rows} rows lack it")
        if self.rows > self.nulls:
            if limits.least is not None and self.least < limits.least:
                found.append(f"{self.name} is at least {limits.least:g}, and a row has {self.least:g}")
            if limits.most is not None and self.most > limits.most:
                found.append(f"{self.name} is at most {limits.most:g}, and a row has {self.most:g}")
        return found


@dataclass(frozen=True, slots=True)
class ViewState:
    """`rows` and `bytes` are those of all tenants; `watermarks`, by collection, and fields the tenant's.

    `ttl` in microseconds; `materialized` is the instant the online store was brought to since the node started,
    OPEN_START if it was not.
    """

    name: str
    ttl: int
    rows: int
    bytes: int
    watermarks: Mapping[str, int]
    materialized: int
    fields: Sequence[FieldState]


class Features(Protocol):
    async def read(self, scope: Scope, view: str, entities: Sequence[str], online: bool = False) -> list[FeatureRow]:
        """For each entity the latest row with event ≤ as_of among those with created ≤ known_at; of rows with the same
        event the last created. Entities are local to the scope's tenant and collection.

        Waits for the watermark like the retriever, then raises BehindWatermark.

        `online`: by the online store, which knows only what held when the view was last materialized; the rows have
        neither event nor created. Raises Conflict where the moment is before that, or it never was.
        """
        ...

    async def training(
        self, tenant: str, collection: str, view: str, asked: Sequence[tuple[str, int]]
    ) -> list[FeatureRow]:
        """For each (entity, instant) what held at the instant as known at it, by Feast's own historical join, which
        filters by created time: sets for training and evaluation.

        Rows have neither event nor created. Raises InvalidRequest for an instant that Feast cannot date.
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

    async def apply(self, dry_run: bool) -> list[str]:
        """Apply the definitions in `feature_repo`, or only say what that would do: a change a line. Raises Conflict
        where a change would make history unreadable."""
        ...

    async def describe(self, tenant: str, view: str = "", statistics: bool = False) -> list[ViewState]:
        """What there is of a view, or of all. `statistics`: read every row of the tenant for those of the fields."""
        ...
