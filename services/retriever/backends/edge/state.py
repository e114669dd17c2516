"""The durable state of one generation beside its points: dimensions and watermarks, as JSON replaced atomically."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from services.common.moment import OPEN_START
from services.common.nodes.funnel import PLAIN, Funnel, Rotation
from services.retriever.backends.base import Definition
from services.retriever.backends.durable import save_json

_BASIS = "basis.npy"


@dataclass(slots=True)
class State:
    """Read once; a change is written first and then remembered. watermarks: tenant → collection → record time.

    `shard` names the directory beside this file that holds the points; any other is a leftover. unbuilt: changes since
    its last build.
    """

    path: Path
    dimensions: int | None = None
    watermarks: dict[str, dict[str, int]] = field(default_factory=dict)
    shard: str = "shard"
    funnel: Funnel = PLAIN
    unbuilt: int = 0

    @classmethod
    def define(cls, path: Path, definition: Definition) -> Self:
        """The first state of a generation, saved; its basis lies beside it."""
        if definition.basis is not None:
            np.save(path.with_name(_BASIS), definition.basis)
        state = cls(path, funnel=definition.funnel)
        state.save()
        return state

    def definition(self) -> Definition:
        rotated = self.funnel.rotation is not Rotation.NONE
        return Definition(self.funnel, np.load(self.path.with_name(_BASIS)) if rotated else None)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises FileNotFoundError where nothing was ever saved."""
        held = json.loads(path.read_text(encoding="utf-8"))
        return cls(path=path, **{**held, "funnel": Funnel.from_json(held["funnel"])})

    def watermark(self, tenant: str, collection: str) -> int:
        return self.watermarks.get(tenant, {}).get(collection, OPEN_START)

    def settle(self, dimensions: int) -> None:
        self._change(dimensions=dimensions)

    def point_to(self, shard: str, unbuilt: int) -> None:
        """From now on the points lie in another directory."""
        self._change(shard=shard, unbuilt=unbuilt)

    def advance(self, tenant: str, collection: str, watermark: int, unbuilt: int) -> None:
        others = self.watermarks.get(tenant, {})
        watermarks = {**self.watermarks, tenant: {**others, collection: watermark}}
        self._change(watermarks=watermarks, unbuilt=unbuilt)

    def save(self) -> None:
        held = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "path"}
        save_json(self.path, {**held, "funnel": self.funnel.to_json()})

    def _change(self, **changed: Any) -> None:
        replace(self, **changed).save()
        for name, value in changed.items():
            setattr(self, name, value)
