"""The retriever behind gRPC: protobuf in and out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, fields
from typing import Any

from services.common.clients import wire
from services.common.clients.retriever import TARGET
from services.common.errors import InvalidRequest, ScopeMissing
from services.common.nodes.funnel import Funnel
from services.common.nodes.retriever import Changes, Close, Hit, Point, Query, Retriever, Target
from services.protos import common_pb2
from services.protos import retriever_pb2 as pb
from services.protos.retriever_pb2_grpc import RetrieverServicer as Base

_TARGET = {number: target for target, number in TARGET.items()}


class RetrieverServicer(Base):
    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    async def Define(self, request: pb.DefineRequest, context: Any) -> pb.DefineResponse:
        basis = wire.tensor_from_pb(request.basis) if request.HasField("basis") else None
        await self._retriever.define(request.generation, _funnel(request.funnel), basis)
        return pb.DefineResponse()

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        found = await self._retriever.search(_query(request))
        plan = [pb.Stage(**asdict(stage)) for stage in found.plan]
        return pb.SearchResponse(hits=[_hit(hit) for hit in found.hits], plan=plan)

    async def Apply(self, requests: AsyncIterator[pb.ApplyRequest], context: Any) -> common_pb2.Watermark:
        header = await anext(requests, None)
        if header is None or not header.HasField("header"):
            raise ScopeMissing("the first message of Apply must be its header")
        stretch = wire.stretch_from_pb(header.header.stretch)
        reached = await self._retriever.apply(header.header.generation, stretch, _batches(requests))
        return common_pb2.Watermark(recorded_us=reached)

    async def Position(self, request: pb.PositionRequest, context: Any) -> common_pb2.Watermark:
        reached = await self._retriever.position(request.generation, request.tenant, request.collection)
        return common_pb2.Watermark(recorded_us=reached)

    async def Standing(self, request: pb.StandingRequest, context: Any) -> pb.StandingResponse:
        found = await self._retriever.standing(request.generation)
        return pb.StandingResponse(exists=True, **asdict(found)) if found else pb.StandingResponse(exists=False)

    async def Contents(self, request: pb.ContentsRequest, context: Any) -> pb.ContentsResponse:
        found = await self._retriever.contents(request.generation, request.tenant, request.collection)
        return pb.ContentsResponse(**asdict(found))

    async def Erase(self, request: pb.EraseRequest, context: Any) -> pb.EraseResponse:
        where = (request.generation, request.tenant, request.collection)
        return pb.EraseResponse(points=await self._retriever.erase(*where, request.doc_id))

    async def Drop(self, request: pb.DropRequest, context: Any) -> pb.DropResponse:
        await self._retriever.drop(request.generation)
        return pb.DropResponse()

    async def Replace(self, request: pb.ReplaceRequest, context: Any) -> pb.ReplaceResponse:
        await self._retriever.replace(request.generation, request.by)
        return pb.ReplaceResponse()


def _target(number: pb.Target) -> Target:
    if number not in _TARGET:
        raise InvalidRequest("the request names no target: passages or questions")
    return _TARGET[number]


def _funnel(funnel: pb.Funnel) -> Funnel:
    named = {field.name: getattr(funnel, field.name) for field in fields(Funnel)}
    return Funnel.from_json(named)


def _query(request: pb.SearchRequest) -> Query:
    return Query(
        scope=wire.scope_from_pb(request.scope),
        target=_target(request.target),
        text=request.text,
        vector=wire.tensor_from_pb(request.vector) if request.HasField("vector") else None,
        limit=request.limit,
        filters={item.key: tuple(item.values) for item in request.filters},
        exact=request.exact,
    )


def _hit(hit: Hit) -> pb.Hit:
    extent = wire.extent_to_pb(hit.extent)
    return pb.Hit(
        item_id=hit.item_id,
        doc_id=hit.doc_id,
        score=hit.score,
        dense=hit.dense,
        lexical=hit.lexical,
        extent=extent,
        dense_rank=hit.dense_rank,
        lexical_rank=hit.lexical_rank,
    )


async def _batches(requests: AsyncIterator[pb.ApplyRequest]) -> AsyncIterator[Changes]:
    async for batch in wire.batches_until_end(requests):
        yield _changes(batch)


def _changes(batch: pb.ApplyBatch) -> Changes:
    closes = [Close(close.point_id, close.recorded_to_us) for close in batch.closes]
    return Changes([_point(upsert) for upsert in batch.upserts], wire.tensor_from_pb(batch.vectors), closes)


def _point(upsert: pb.Upsert) -> Point:
    return Point(
        point_id=upsert.point_id,
        target=_target(upsert.target),
        item_id=upsert.item_id,
        doc_id=upsert.doc_id,
        extent=wire.extent_from_pb(upsert.extent),
        text=upsert.text,
        metadata=dict(upsert.metadata),
    )
