from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from services.common.clients import wire
from services.common.nodes.retriever import Changes, Hit, Query, Target
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

    async def search(self, query: Query) -> list[Hit]:
        answer = await call(self._stub.Search, query_to_pb(query))
        return [hit_from_pb(hit) for hit in answer.hits]

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
    )


def hit_from_pb(hit: pb.Hit) -> Hit:
    return Hit(
        item_id=hit.item_id,
        doc_id=hit.doc_id,
        score=hit.score,
        dense=hit.dense if hit.HasField("dense") else None,
        lexical=hit.lexical if hit.HasField("lexical") else None,
        extent=wire.extent_from_pb(hit.extent),
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
