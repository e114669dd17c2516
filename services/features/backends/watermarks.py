"""Watermarks in one JSON file, replaced atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path

from services.common.moment import OPEN_START
from services.features.backends.parquet import sync_directory


class Watermarks:
    """By view, tenant and collection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        entries = json.loads(path.read_text()) if path.exists() else []
        self._marks: dict[tuple[str, str, str], int] = {
            (view, tenant, collection): mark for view, tenant, collection, mark in entries
        }

    def get(self, view: str, tenant: str, collection: str) -> int:
        return self._marks.get((view, tenant, collection), OPEN_START)

    def of(self, view: str, tenant: str) -> dict[str, int]:
        """By collection, of one tenant."""
        return {name: mark for (of, whose, name), mark in self._marks.items() if (of, whose) == (view, tenant)}

    def advance(self, view: str, tenant: str, collection: str, mark: int) -> None:
        """Durable before it can be read."""
        self._write({**self._marks, (view, tenant, collection): mark})

    def forget(self, view: str, tenant: str, collection: str) -> None:
        """As if nothing had ever been applied."""
        self._write({where: mark for where, mark in self._marks.items() if where != (view, tenant, collection)})

    def _write(self, marks: dict[tuple[str, str, str], int]) -> None:
        unseen = self._path.with_suffix(".tmp")
        with unseen.open("w") as file:
            json.dump([[*where, at] for where, at in marks.items()], file)
            file.flush()
            os.fsync(file.fileno())
        unseen.replace(self._path)
        sync_directory(self._path.parent)
        self._marks = marks
