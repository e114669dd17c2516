from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from services.common.clients import wire
from services.common.nodes.funnel import Funnel
from services.common.nodes.retriever import Changes, Contents, Found, Hit, Query, Stage, Standing, Target, Vectors
from services.common.nodes.scope import Stretch
from services.common.rpc.client import call
from services.protos import common_pb2
from services.protos import retriever_pb2 as pb
from services.protos.retriever_pb2_grpc import RetrieverStub

TARGET = {Target.PASSAGES: pb.TARGET_PASSAGES, Target.QUESTIONS: pb.TARGET_QUESTIONS}
APPLY_SECONDS = 600.0


class RetrieverClient:
    """The retriever, over gRPC."""

    def __init__(self, line: grpc.aio.Channel) -> None:
        self._stub = RetrieverStub(line)  # type: ignore[no-untyped-call]

    async def define(self, generation: str, funnel: Funnel, basis: Vectors | None = None) -> None:
        tensor = None if basis is None else wire.tensor_to_pb(basis)
        request = pb.DefineRequest(generation=generation, funnel=pb.Funnel(**funnel.to_json()), basis=tensor)
        await call(self._stub.Define, request)

    async def search(self, query: Query) -> Found:
        answer = await call(self._stub.Search, query_to_pb(query))
        plan = [Stage(one.name, one.method, one.passing, one.points, one.ms) for one in answer.plan]
        return Found([hit_from_pb(hit) for hit in answer.hits], plan)

    async def apply(self, generation: str, stretch: Stretch, batches: AsyncIterator[Changes]) -> int:
        async def requests() -> AsyncIterator[pb.ApplyRequest]:
            header = pb.ApplyHeader(generation=generation, stretch=wire.stretch_to_pb(stretch))
            yield pb.ApplyRequest(header=header)
            async for changes in batches:
                yield pb.ApplyRequest(batch=changes_to_pb(changes))
            yield pb.ApplyRequest(end=common_pb2.StretchEnd())

        return int((await call(self._stub.Apply, requests(), APPLY_SECONDS)).recorded_us)

    async def position(self, generation: str, tenant: str, collection: str) -> int:
        request = pb.PositionRequest(generation=generation, tenant=tenant, collection=collection)
        return int((await call(self._stub.Position, request)).recorded_us)

    async def standing(self, generation: str) -> Standing | None:
        found = await call(self._stub.Standing, pb.StandingRequest(generation=generation))
        if not found.exists:
            return None
        return Standing(found.points, found.unbuilt, found.disk_bytes, found.memory_bytes, found.building)

    async def contents(self, generation: str, tenant: str, collection: str) -> Contents:
        request = pb.ContentsRequest(generation=generation, tenant=tenant, collection=collection)
        found = await call(self._stub.Contents, request, APPLY_SECONDS)
        return Contents(found.points, found.fingerprint)

    async def erase(self, generation: str, tenant: str, collection: str, doc_id: str) -> int:
        request = pb.EraseRequest(generation=generation, tenant=tenant, collection=collection, doc_id=doc_id)
        return int((await call(self._stub.Erase, request, APPLY_SECONDS)).points)

    async def drop(self, generation: str) -> None:
        await call(self._stub.Drop, pb.DropRequest(generation=generation))

    async def replace(self, generation: str, by: str) -> None:
        await call(self._stub.Replace, pb.ReplaceRequest(generation=generation, by=by), APPLY_SECONDS)


def query_to_pb(query: Query) -> pb.SearchRequest:
    return pb.SearchRequest(
        scope=wire.scope_to_pb(query.scope),
        target=TARGET[query.target],
        vector=None if query.vector is None else wire.tensor_to_pb(query.vector),
        text=query.text,
        limit=query.limit,
        filters=[pb.Filter(key=key, values=values) for key, values in query.filters.items()],
        exact=query.exact,
    )


def hit_from_pb(hit: pb.Hit) -> Hit:
    return Hit(
        item_id=hit.item_id,
        doc_id=hit.doc_id,
        score=hit.score,
        dense=hit.dense if hit.HasField("dense") else None,
        lexical=hit.lexical if hit.HasField("lexical") else None,
        extent=wire.extent_from_pb(hit.extent),
        dense_rank=hit.dense_rank if hit.HasField("dense_rank") else None,
        lexical_rank=hit.lexical_rank if hit.HasField("lexical_rank") else None,
    )


def changes_to_pb(changes: Changes) -> pb.ApplyBatch:
    upserts = [
        pb.Upsert(
            point_id=point.point_id,
            target=TARGET[point.target],
            item_id=point.item_id,
            doc_id=point.doc_id,
            extent=wire.extent_to_pb(point.extent),
            text=point.text,
            metadata=point.metadata,
        )
        for point in changes.upserts
    ]
    closes = [pb.Close(point_id=close.point_id, recorded_to_us=close.recorded_to) for close in changes.closes]
    return pb.ApplyBatch(upserts=upserts, vectors=wire.tensor_to_pb(changes.vectors), closes=closes)
