"""What the retriever's server keeps to, whatever is sent to it."""

import asyncio

import grpc
import pytest

from services.common.clients.retriever import RetrieverClient
from services.common.moment import OPEN_START
from services.common.nodes.scope import Stretch
from services.protos import retriever_pb2 as pb
from services.protos.retriever_pb2_grpc import RetrieverStub
from tests.fakes.retriever import changes, point, retriever_over, served


@pytest.fixture
async def stub(tmp_path):
    inside = retriever_over("memory", tmp_path)
    async with served(inside, tmp_path) as line:
        yield RetrieverStub(line)
    await inside.close()


async def test_a_stream_that_breaks_off_is_never_taken_for_a_whole_one(tmp_path):
    inside = retriever_over("memory", tmp_path)
    async with served(inside, tmp_path) as line:
        client = RetrieverClient(line)
        for n in range(100):
            with pytest.raises(asyncio.CancelledError):
                await client.apply("g1", Stretch("acme", f"notes-{n}", OPEN_START, 10), breaking_off())
        assert {await client.position("g1", "acme", f"notes-{n}") for n in range(100)} == {OPEN_START}
    await inside.close()


async def breaking_off():
    yield changes([point("half")])
    raise RuntimeError("the pipeline died")


async def test_a_message_without_scope_target_or_header_is_refused(stub):
    async def stream(*messages):
        for message in messages:
            yield message

    scope = {"tenant": "t", "collection": "c", "generation": "g"}
    wrong = [
        stub.Search(pb.SearchRequest(target=pb.TARGET_PASSAGES, text="x", limit=1)),
        stub.Search(pb.SearchRequest(scope=scope, target=pb.TARGET_PASSAGES, text="x", limit=1)),
        stub.Search(pb.SearchRequest(scope=scope | {"moment": {}}, text="x", limit=1)),
        stub.Position(pb.PositionRequest(tenant="t", collection="c")),
        stub.Position(pb.PositionRequest(generation="g", collection="c")),
        stub.Apply(stream()),
        stub.Apply(stream(pb.ApplyRequest(batch=pb.ApplyBatch()))),
        stub.Apply(stream(pb.ApplyRequest(header=pb.ApplyHeader(generation="g")))),
    ]
    for call in wrong:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
