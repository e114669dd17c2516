"""What every process must know of the generations, in a Qdrant collection of its own.

One point a generation says what it is and which collection holds its points; one point a watermark. Writes to it are
strongly ordered and wait until they are applied; reads ask most of the replicas.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID, uuid4

import numpy as np
from qdrant_client import models

from services.common.moment import OPEN_START
from services.common.nodes.funnel import Funnel
from services.retriever.backends.base import Definition
from services.retriever.backends.qdrant.server import Server

_NOTHING = [0.0]
"""Every point has a vector; these are never searched."""
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Known:
    """A generation as it is known.

    lineage: what its watermarks are kept under, whatever its name and collection. aside: a collection that a rewrite
    fills or has left, to be deleted.
    """

    generation: str
    collection: str
    lineage: str
    definition: Definition
    aside: str = ""

    @classmethod
    def fresh(cls, prefix: str, generation: str, definition: Definition) -> Self:
        return cls(generation, fresh_collection(prefix, generation), uuid4().hex, definition)

    def payload(self) -> dict[str, Any]:
        basis = self.definition.basis
        return {
            "kind": "generation",
            "generation": self.generation,
            "collection": self.collection,
            "lineage": self.lineage,
            "aside": self.aside,
            "funnel": self.definition.funnel.to_json(),
            "basis": None if basis is None else base64.b64encode(basis.astype("<f4").tobytes()).decode(),
        }

    @classmethod
    def from_payload(cls, held: Mapping[str, Any]) -> Self:
        funnel = Funnel.from_json(held["funnel"])
        basis = None
        if held["basis"] is not None:
            numbers = np.frombuffer(base64.b64decode(held["basis"]), "<f4").astype(np.float32)
            basis = numbers.reshape(funnel.dimensions, -1)
        definition = Definition(funnel, basis)
        return cls(held["generation"], held["collection"], held["lineage"], definition, held["aside"])


def fresh_collection(prefix: str, generation: str) -> str:
    """A name no collection has had: what is deleted late, or never, is in nobody's way."""
    return f"{prefix}.{generation}.{uuid4().hex[:12]}"


class States:
    """The state collection, made when first written to."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = f"{server.prefix}.state"
        self._there = False

    def find(self, generation: str) -> Known | None:
        held = self._read(_id("generation", generation))
        return Known.from_payload(held) if held else None

    def save(self, known: Known) -> None:
        """One write: whoever reads afterwards finds all of it."""
        self._write(_id("generation", known.generation), known.payload())

    def forget(self, generation: str) -> None:
        if self._exists():
            self._delete(models.PointIdsList(points=[_id("generation", generation)]))

    def forget_watermarks(self, lineage: str) -> None:
        if self._exists():
            self._delete(models.FilterSelector(filter=_having(kind="watermark", lineage=lineage)))

    def others(self, known: Known) -> list[Known]:
        """The generations that have other names and the same points."""
        alike = self._all(_having(kind="generation", lineage=known.lineage))
        return [other for other in map(Known.from_payload, alike) if other.generation != known.generation]

    def watermark(self, lineage: str, tenant: str, collection: str) -> int:
        held = self._read(_id("watermark", lineage, tenant, collection))
        return int(held["watermark"]) if held else OPEN_START

    def watermarks(self, lineage: str) -> dict[tuple[str, str], int]:
        held = self._all(_having(kind="watermark", lineage=lineage))
        return {(one["tenant"], one["collection"]): int(one["watermark"]) for one in held}

    def advance(self, lineage: str, tenant: str, collection: str, watermark: int) -> None:
        named = {"kind": "watermark", "lineage": lineage, "tenant": tenant, "collection": collection}
        self._write(_id("watermark", lineage, tenant, collection), {**named, "watermark": watermark})

    def _read(self, point: str) -> dict[str, Any] | None:
        if not self._exists():
            return None
        with self._server.reached():
            majority = models.ReadConsistencyType.MAJORITY
            found = self._server.client.retrieve(self._name, [point], with_payload=True, consistency=majority)
        return found[0].payload if found else None

    def _all(self, wanted: models.Filter) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        offset = None
        while self._exists():
            with self._server.reached():
                majority = models.ReadConsistencyType.MAJORITY
                records, offset = self._server.client.scroll(
                    self._name, wanted, limit=_PAGE, offset=offset, consistency=majority
                )
            found += [record.payload or {} for record in records]
            if offset is None:
                break
        return found

    def _write(self, point: str, payload: dict[str, Any]) -> None:
        self._require()
        with self._server.reached():
            row = models.PointStruct(id=point, vector=_NOTHING, payload=payload)
            self._server.client.upsert(self._name, [row], wait=True, ordering=models.WriteOrdering.STRONG)

    def _delete(self, selector: models.PointsSelector) -> None:
        with self._server.reached():
            self._server.client.delete(self._name, selector, wait=True, ordering=models.WriteOrdering.STRONG)

    def _exists(self) -> bool:
        if not self._there:
            with self._server.reached():
                self._there = self._server.client.collection_exists(self._name)
        return self._there

    def _require(self) -> None:
        if self._exists():
            return
        one = models.VectorParams(size=1, distance=models.Distance.DOT)
        try:
            with self._server.reached():
                self._server.client.create_collection(
                    self._name,
                    one,
                    shard_number=1,
                    replication_factor=self._server.replicas,
                    write_consistency_factor=self._server.acknowledging,
                )
        except Exception:
            if not self._exists():  # else another process has made it meanwhile
                raise
        if not self._server.local:
            with self._server.reached():
                for field in ("kind", "lineage"):
                    self._server.client.create_payload_index(self._name, field, models.PayloadSchemaType.KEYWORD)


def _id(*names: str) -> str:
    return str(UUID(bytes=hashlib.blake2b("\0".join(names).encode(), digest_size=16).digest()))


def _having(**values: str) -> models.Filter:
    return models.Filter(
        must=[models.FieldCondition(key=key, match=models.MatchValue(value=value)) for key, value in values.items()]
    )
