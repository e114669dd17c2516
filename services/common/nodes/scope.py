"""Who asks, where and at which moment: mandatory at the retriever's and the features node's doors."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import ScopeMissing
from services.common.moment import OPEN_END, OPEN_START, Moment


@dataclass(frozen=True, slots=True)
class Scope:
    """The only authority a reader accepts. Raises ScopeMissing if any part is missing."""

    tenant: str
    collection: str
    generation: str
    moment: Moment

    def __post_init__(self) -> None:
        for name in ("tenant", "collection", "generation"):
            if not getattr(self, name):
                raise ScopeMissing(f"the request carries no {name}")
        for instant in (self.moment.as_of, self.moment.known_at):
            if not OPEN_START <= instant <= OPEN_END:
                raise ScopeMissing("the request's moment lies outside the years 1 to 9999")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of one collection's record: what was recorded in (start, end]."""

    tenant: str
    collection: str
    start: int
    end: int
