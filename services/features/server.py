"""The features node over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.common.clients import wire
from services.common.clients.features import row_from_pb, row_to_pb
from services.common.errors import InvalidRequest
from services.common.nodes.features import FeatureRow, Features
from services.protos import common_pb2, features_pb2
from services.protos.features_pb2_grpc import FeaturesServicer as Base


class FeaturesServicer(Base):
    def __init__(self, features: Features) -> None:
        self._features = features

    async def Read(self, request: features_pb2.ReadRequest, context: Any) -> features_pb2.ReadResponse:
        rows = await self._features.read(wire.scope_from_pb(request.scope), request.view, list(request.entities))
        return features_pb2.ReadResponse(rows=[row_to_pb(row) for row in rows])

    async def Append(self, requests: AsyncIterator[features_pb2.AppendRequest], context: Any) -> common_pb2.Watermark:
        first = await anext(requests, None)
        if first is None or not first.HasField("header"):
            raise InvalidRequest("the first message of an append must be its header")
        stretch = wire.stretch_from_pb(first.header.stretch)
        watermark = await self._features.append(first.header.view, stretch, _batches(requests))
        return common_pb2.Watermark(recorded_us=watermark)

    async def Position(self, request: features_pb2.PositionRequest, context: Any) -> common_pb2.Watermark:
        watermark = await self._features.position(request.view, request.tenant, request.collection)
        return common_pb2.Watermark(recorded_us=watermark)

    async def Materialize(
        self, request: features_pb2.MaterializeRequest, context: Any
    ) -> features_pb2.MaterializeResponse:
        return features_pb2.MaterializeResponse(through_us=await self._features.materialize(request.view))

    async def Erase(self, request: features_pb2.EraseRequest, context: Any) -> features_pb2.EraseResponse:
        where = (request.view, request.tenant, request.collection)
        return features_pb2.EraseResponse(rows=await self._features.erase(*where, request.entity))

    async def Drop(self, request: features_pb2.DropRequest, context: Any) -> features_pb2.DropResponse:
        await self._features.drop(request.view, request.tenant, request.collection)
        return features_pb2.DropResponse()


async def _batches(requests: AsyncIterator[features_pb2.AppendRequest]) -> AsyncIterator[Sequence[FeatureRow]]:
    async for batch in wire.batches_until_end(requests):
        yield [row_from_pb(row) for row in batch.rows]
