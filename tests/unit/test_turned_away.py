"""A call that a node sent away because it is about to end is made once more; any other is not."""

import grpc
import pytest

from services.common.clients.encoder import EncoderClient
from services.common.clients.generator import GeneratorClient
from services.common.errors import Unavailable
from services.common.nodes.encoder import TextKind
from services.common.nodes.generator import Message, Prompt
from services.common.rpc.client import channel
from services.common.rpc.server import start
from services.encoder.server import EncoderServicer
from services.generator.server import GeneratorServicer
from services.protos.encoder_pb2_grpc import add_EncoderServicer_to_server
from services.protos.generator_pb2_grpc import add_GeneratorServicer_to_server
from tests.fakes.encoder import FakeEncoder
from tests.fakes.generator import FakeGenerator

PROMPT = Prompt("t", (Message("user", "a"),), 8)


class Ending:
    """Sends so many calls away, each after so many responses, as a server does that shuts down."""

    def __init__(self, calls, after=0):
        self.left, self.after, self.asked = calls, after, 0

    async def turn(self, context):
        self.asked += 1
        self.left -= 1
        if self.left >= 0:
            await context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")


class EndingEncoder(EncoderServicer):
    def __init__(self, ending):
        super().__init__(FakeEncoder())
        self.ending = ending

    async def Encode(self, request, context):
        await self.ending.turn(context)
        return await super().Encode(request, context)


class EndingGenerator(GeneratorServicer):
    def __init__(self, ending):
        super().__init__(FakeGenerator("One two three."))
        self.ending = ending

    async def Generate(self, request, context):
        if not self.ending.after:
            await self.ending.turn(context)
        async for response in super().Generate(request, context):
            yield response
            if self.ending.after:
                await self.ending.turn(context)


@pytest.fixture
async def served(tmp_path):
    """Both nodes behind one channel, ending as told."""
    servers, lines = [], []

    async def serve(ending):
        address = f"unix:{tmp_path}/node.sock"

        def register(server):
            add_EncoderServicer_to_server(EndingEncoder(ending), server)
            add_GeneratorServicer_to_server(EndingGenerator(ending), server)

        servers.append(await start(address, "almanac.encoder.v1.Encoder", register))
        lines.append(channel(address))
        return lines[-1]

    yield serve
    for line in lines:
        await line.close()
    for server in servers:
        await server.stop(None)


@pytest.mark.parametrize(("calls", "asked"), [(0, 1), (1, 2), (2, 2)])
async def test_a_call_is_made_once_more(served, calls, asked):
    ending = Ending(calls)
    encode = EncoderClient(await served(ending)).encode("all-MiniLM-L6-v2", TextKind.QUERY, ["a"])
    if calls > 1:
        with pytest.raises(Unavailable):
            await encode
    else:
        assert len(await encode) == 1
    assert ending.asked == asked


async def read(line):
    return [chunk.text async for chunk in GeneratorClient(line).generate(PROMPT)]


@pytest.mark.parametrize("calls", [0, 1])
async def test_a_stream_is_begun_once_more(served, calls):
    ending = Ending(calls)
    assert "".join(await read(await served(ending))).strip() == "One two three."
    assert ending.asked == calls + 1


async def test_a_stream_that_has_begun_is_not(served):
    ending = Ending(1, after=1)
    with pytest.raises(Unavailable):
        await read(await served(ending))
    assert ending.asked == 1
