"""The small typed records that flow between the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
