from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import grpc

from services.common.batches import batched
from services.common.clients import wire
from services.common.nodes.features import FeatureRow, FieldState, Limits, Value, ViewState
from services.common.nodes.scope import Scope, Stretch
from services.common.rpc.client import call, stream
from services.protos import common_pb2
from services.protos import features_pb2 as pb
from services.protos.features_pb2_grpc import FeaturesStub

APPEND_SECONDS = 600.0
TRAINING_ROWS = 20_000
"""So many entities and instants are joined at once."""


class FeaturesClient:
    """The features node, over gRPC."""

    def __init__(self, line: grpc.aio.Channel) -> None:
        self._stub = FeaturesStub(line)  # type: ignore[no-untyped-call]

    async def read(self, scope: Scope, view: str, entities: Sequence[str], online: bool = False) -> list[FeatureRow]:
        request = pb.ReadRequest(scope=wire.scope_to_pb(scope), view=view, entities=entities, online=online)
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

    async def training(
        self, tenant: str, collection: str, view: str, asked: Sequence[tuple[str, int]]
    ) -> list[FeatureRow]:
        async def requests() -> AsyncIterator[pb.TrainingRequest]:
            yield pb.TrainingRequest(header=pb.TrainingHeader(tenant=tenant, collection=collection, view=view))
            for batch in batched(asked, TRAINING_ROWS):
                wanted = [pb.Asked(entity=entity, at_us=when) for entity, when in batch]
                yield pb.TrainingRequest(batch=pb.TrainingBatch(asked=wanted))

        answers = stream(self._stub.Training, requests(), APPEND_SECONDS)
        return [row_from_pb(row) async for answer in answers for row in answer.rows]

    async def apply(self, dry_run: bool) -> list[str]:
        answer = await call(self._stub.Apply, pb.ApplyRequest(dry_run=dry_run), APPEND_SECONDS)
        return list(answer.changes)

    async def describe(self, tenant: str, view: str = "", statistics: bool = False) -> list[ViewState]:
        request = pb.DescribeRequest(tenant=tenant, view=view, statistics=statistics)
        return [state_from_pb(state) for state in (await call(self._stub.Describe, request, APPEND_SECONDS)).views]


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


def state_to_pb(state: ViewState) -> pb.ViewState:
    return pb.ViewState(
        name=state.name,
        ttl_us=state.ttl,
        rows=state.rows,
        bytes=state.bytes,
        watermarks=state.watermarks,
        materialized_us=state.materialized,
        fields=[_field_to_pb(field) for field in state.fields],
    )


def _field_to_pb(field: FieldState) -> pb.FieldState:
    return pb.FieldState(
        name=field.name,
        type=field.type,
        rows=field.rows,
        nulls=field.nulls,
        empty=field.empty,
        least=field.least,
        most=field.most,
        limits=pb.Limits(required=field.limits.required, least=field.limits.least, most=field.limits.most),
    )


def state_from_pb(state: pb.ViewState) -> ViewState:
    fields = [_field_from_pb(field) for field in state.fields]
    marks = dict(state.watermarks)
    return ViewState(state.name, state.ttl_us, state.rows, state.bytes, marks, state.materialized_us, fields)


def _field_from_pb(field: pb.FieldState) -> FieldState:
    said = field.limits
    limits = Limits(
        said.required,
        said.least if said.HasField("least") else None,
        said.most if said.HasField("most") else None,
    )
    counts = (field.rows, field.nulls, field.empty, field.least, field.most)
    return FieldState(field.name, field.type, *counts, limits)
