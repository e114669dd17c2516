"""The features node over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.common.clients import wire
from services.common.clients.features import row_from_pb, row_to_pb, state_to_pb
from services.common.errors import InvalidRequest, ScopeMissing
from services.common.nodes.features import FeatureRow, Features
from services.protos import common_pb2, features_pb2
from services.protos.features_pb2_grpc import FeaturesServicer as Base


class FeaturesServicer(Base):
    def __init__(self, features: Features) -> None:
        self._features = features

    async def Read(self, request: features_pb2.ReadRequest, context: Any) -> features_pb2.ReadResponse:
        scope = wire.scope_from_pb(request.scope)
        rows = await self._features.read(scope, request.view, list(request.entities), request.online)
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

    async def Apply(self, request: features_pb2.ApplyRequest, context: Any) -> features_pb2.ApplyResponse:
        return features_pb2.ApplyResponse(changes=await self._features.apply(request.dry_run))

    async def Describe(self, request: features_pb2.DescribeRequest, context: Any) -> features_pb2.DescribeResponse:
        states = await self._features.describe(request.tenant, request.view, request.statistics)
        return features_pb2.DescribeResponse(views=[state_to_pb(state) for state in states])

    async def Training(
        self, requests: AsyncIterator[features_pb2.TrainingRequest], context: Any
    ) -> AsyncIterator[features_pb2.TrainingResponse]:
        first = await anext(requests, None)
        if first is None or not first.HasField("header"):
            raise InvalidRequest("the first message of a training set must be its header")
        where = (first.header.tenant, first.header.collection, first.header.view)
        async for request in requests:
            rows = await self._features.training(*where, [_asked(one) for one in request.batch.asked])
            yield features_pb2.TrainingResponse(rows=[row_to_pb(row) for row in rows])


async def _batches(requests: AsyncIterator[features_pb2.AppendRequest]) -> AsyncIterator[Sequence[FeatureRow]]:
    async for batch in wire.batches_until_end(requests):
        yield [row_from_pb(row) for row in batch.rows]


def _asked(asked: features_pb2.Asked) -> tuple[str, int]:
    if not asked.HasField("at_us"):
        raise ScopeMissing(f"{asked.entity!r} is asked for at no moment")
    return asked.entity, asked.at_us
