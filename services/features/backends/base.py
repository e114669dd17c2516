"""What a backend of the features node promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from services.common.nodes.features import FeatureRow, Value, ViewState
from services.common.nodes.scope import Stretch
from services.features.views import View


class Backend(Protocol):
    """Rows by entity key, which includes tenant and collection, as services.features.views.stored_row makes them."""

    async def view(self, name: str) -> View:
        """A view's definition; waits for definitions that are being applied. Raises NotFound."""
        ...

    def names(self) -> list[str]:
        """Of the views that are defined, sorted."""
        ...

    def latest(self, view: str, keys: Sequence[str], as_of: int, known_at: int) -> list[FeatureRow | None]:
        """For each key the row with the latest event ≤ as_of among those created ≤ known_at, of rows with the same
        event the last created. Answers at once, also while an append runs, and then without its rows or with them."""
        ...

    def watermark(self, view: str, tenant: str, collection: str) -> int:
        """Up to when the collection's record is durably in the view; OPEN_START if nothing is."""
        ...

    async def append(self, view: str, stretch: Stretch, batches: AsyncIterator[Sequence[FeatureRow]]) -> None:
        """Append the rows of a stretch that begins at or before the watermark, and move the watermark to its end.

        Durable when it returns. Killed before that, the watermark has not moved, and appending the same rows again
        doubles nothing. The caller never appends twice at a time to one collection of a view.
        """
        ...

    async def erase(self, view: str, key: str) -> int:
        """Remove every row of an entity from files, memory and the online store; returns how many there were.

        Durable when it returns, safe to repeat.
        """
        ...

    async def drop(self, view: str, tenant: str, collection: str) -> None:
        """Remove a collection's rows, offline and online, and its watermark, which goes first. Safe to repeat."""
        ...

    async def materialize(self, view: str) -> int:
        """Bring the online store up to now; returns the instant it reached."""
        ...

    async def training(self, view: str, asked: Sequence[tuple[str, int]]) -> list[Mapping[str, Value] | None]:
        """For each (entity key, instant) the values that held at the instant as known at it, None where no row did."""
        ...

    def materialized(self, view: str) -> int:
        """The instant that materialize reached since the backend was opened, OPEN_START if it was not called."""
        ...

    async def online(self, view: str, keys: Sequence[str]) -> list[Mapping[str, Value] | None]:
        """For each key the values in the online store, None where it has none."""
        ...

    async def apply(self, dry_run: bool) -> list[str]:
        """Apply the definitions, or only say what that would do, a change a line. Raises Conflict where it is
        refused."""
        ...

    async def describe(self, view: str, tenant: str, statistics: bool) -> ViewState:
        """What there is of a view; statistics read every row of the tenant."""
        ...

    async def prepare(self) -> None:
        """Do what reads and appends do not need; safe to repeat."""
        ...

    async def close(self) -> None:
        """Let go of what other processes may want."""
        ...
