"""The small typed records that flow between the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.catalog.commit import VectorFile
from services.catalog.records import DocumentIn, FactIn

Row = DocumentIn | FactIn


@dataclass(frozen=True, slots=True)
class Source:
    """An uploaded file and what its rows inherit."""

    path: str
    name: str
    valid_from: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        return cls(data["path"], data["name"], data.get("valid_from"))


@dataclass(frozen=True, slots=True)
class Loaded:
    """One input row as read: where it came from, and either the row or the reason why there is none."""

    source: str
    line: int | None
    row: Row | None = None
    id: str = ""
    reason: str = ""

    def failure(self, reason: str = "") -> dict[str, Any]:
        return {"source": self.source, "line": self.line, "id": self.id, "reason": reason or self.reason}


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows with their passages, committed together. `documents` is how many the job has met up to here."""

    rows: Sequence[Loaded]
    documents: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch, the ids of all items it needs vectors for, and by id the texts of those to be encoded."""

    batch: Batch
    items: Sequence[str]
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch, the ids of all items it needs vectors for, and the vector file with those that were new."""

    batch: Batch
    items: Sequence[str]
    file: VectorFile
