"""The durable state of one generation: its funnel, its watermarks, and how much of its files counts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from services.common.errors import Conflict
from services.common.moment import OPEN_START
from services.common.nodes.funnel import PLAIN, Funnel, Rotation
from services.common.nodes.retriever import Target
from services.retriever.backends.base import Definition
from services.retriever.backends.durable import save_json
from services.retriever.backends.rows.segment import Place

FILE = "state.json"
SCHEMA = 3
"""Of the files: 2 has rows and postings of its own, 1 kept them in an index of Qdrant Edge. 3 keeps the graph below the
build, beside the lists."""
_BASIS = "basis.npy"


@dataclass(slots=True)
class State:
    """What `state.json` says. engine: the backend that makes the builds; segment: the directory of the points, any
    other is a leftover; built: the name of the coarse index and the postings in it, if any; lengths: of the segment's
    files, in records."""

    directory: Path
    engine: str
    funnel: Funnel = PLAIN
    dimensions: int | None = None
    segment: str = "segment"
    built: str = ""
    lengths: dict[str, int] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    watermarks: dict[tuple[str, str], int] = field(default_factory=dict)
    schema: int = SCHEMA

    @classmethod
    def define(cls, directory: Path, engine: str, definition: Definition) -> Self:
        """The first state of a generation, saved; its basis lies beside it."""
        if definition.basis is not None:
            np.save(directory / _BASIS, definition.basis)
        state = cls(directory, engine, definition.funnel)
        state.save()
        return state

    @classmethod
    def read(cls, directory: Path, engine: str) -> Self:
        """Raises FileNotFoundError where nothing was ever saved, Conflict where the files are of another engine or
        schema."""
        held = json.loads((directory / FILE).read_text(encoding="utf-8"))
        if held.get("schema", 1) != SCHEMA:
            raise Conflict(
                f"the index at {directory} has an older format (not {SCHEMA}); rebuild the generation: "
                "almanac reindex rebuild"
            )
        if held["engine"] != engine:
            raise Conflict(
                f"the index at {directory} was made by the {held['engine']} backend; set "
                "ALMANAC_RETRIEVER_BACKEND to it, or rebuild the generation: almanac reindex rebuild"
            )
        held["funnel"] = Funnel.from_json(held["funnel"])
        held["places"] = [(tenant, collection, Target(target)) for tenant, collection, target in held["places"]]
        held["watermarks"] = {(tenant, collection): mark for tenant, collection, mark in held["watermarks"]}
        return cls(directory, **held)

    def definition(self) -> Definition:
        rotated = self.funnel.rotation is not Rotation.NONE
        return Definition(self.funnel, np.load(self.directory / _BASIS) if rotated else None)

    def watermark(self, tenant: str, collection: str) -> int:
        return self.watermarks.get((tenant, collection), OPEN_START)

    def save(self) -> None:
        """Durable when it returns."""
        held: dict[str, Any] = {**asdict(self), "funnel": self.funnel.to_json()}
        del held["directory"]
        held["watermarks"] = [[*place, mark] for place, mark in self.watermarks.items()]
        save_json(self.directory / FILE, held)
