from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import grpc

from services.common.clients import wire
from services.common.nodes.features import FeatureRow, Value
from services.common.nodes.scope import Scope, Stretch
from services.common.rpc.client import call
from services.protos import common_pb2
from services.protos import features_pb2 as pb
from services.protos.features_pb2_grpc import FeaturesStub

APPEND_SECONDS = 600.0


class FeaturesClient:
    """The features node, over gRPC."""

    def __init__(self, line: grpc.aio.Channel) -> None:
        self._stub = FeaturesStub(line)  # type: ignore[no-untyped-call]

    async def read(self, scope: Scope, view: str, entities: Sequence[str]) -> list[FeatureRow]:
        request = pb.ReadRequest(scope=wire.scope_to_pb(scope), view=view, entities=entities)
        return [row_from_pb(row) for row in (await call(self._stub.Read, request)).rows]

    async def append(self, view: str, stretch: Stretch, batches: AsyncIterator[Sequence[FeatureRow]]) -> int:
        async def requests() -> AsyncIterator[pb.AppendRequest]:
            yield pb.AppendRequest(header=pb.AppendHeader(view=view, stretch=wire.stretch_to_pb(stretch)))
            async for rows in batches:
                yield pb.AppendRequest(batch=pb.AppendBatch(rows=[row_to_pb(row) for row in rows]))
            yield pb.AppendRequest(end=common_pb2.StretchEnd())

        return int((await call(self._stub.Append, requests(), APPEND_SECONDS)).recorded_us)

    async def position(self, view: str, tenant: str, collection: str) -> int:
        request = pb.PositionRequest(view=view, tenant=tenant, collection=collection)
        return int((await call(self._stub.Position, request)).recorded_us)

    async def materialize(self, view: str) -> int:
        answer = await call(self._stub.Materialize, pb.MaterializeRequest(view=view), APPEND_SECONDS)
        return int(answer.through_us)

    async def erase(self, view: str, tenant: str, collection: str, entity: str) -> int:
        request = pb.EraseRequest(view=view, tenant=tenant, collection=collection, entity=entity)
        return int((await call(self._stub.Erase, request, APPEND_SECONDS)).rows)

    async def drop(self, view: str, tenant: str, collection: str) -> None:
        request = pb.DropRequest(view=view, tenant=tenant, collection=collection)
        await call(self._stub.Drop, request, APPEND_SECONDS)


def value_to_pb(value: Value) -> pb.Value:
    if isinstance(value, bool):
        return pb.Value(flag=value)
    if isinstance(value, int):
        return pb.Value(integer=value)
    if isinstance(value, float):
        return pb.Value(number=value)
    return pb.Value(text=value)


def row_to_pb(row: FeatureRow) -> pb.FeatureRow:
    return pb.FeatureRow(
        entity=row.entity,
        found=row.found,
        event_us=row.event,
        created_us=row.created,
        values={name: value_to_pb(value) for name, value in row.values.items()},
    )


def row_from_pb(row: pb.FeatureRow) -> FeatureRow:
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in row.values.items()}
    return FeatureRow(row.entity, row.found, row.event_us, row.created_us, values)
