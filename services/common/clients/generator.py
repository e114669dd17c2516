from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc

from services.common.nodes.generator import Chunk, Prompt
from services.common.rpc.client import call, stream
from services.protos import generator_pb2 as pb
from services.protos.generator_pb2_grpc import GeneratorStub

GENERATE_SECONDS = 120.0


class GeneratorClient:
    """The generator, over gRPC."""

    def __init__(self, line: grpc.aio.Channel) -> None:
        self._stub = GeneratorStub(line)  # type: ignore[no-untyped-call]

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        async with aclosing(stream(self._stub.Generate, prompt_to_pb(prompt), GENERATE_SECONDS)) as responses:
            async for piece in responses:
                yield Chunk(piece.text, piece.finish_reason, piece.prompt_tokens, piece.completion_tokens)

    async def models(self) -> list[str]:
        return list((await call(self._stub.Models, pb.ModelsRequest())).names)


def prompt_to_pb(prompt: Prompt) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        tenant=prompt.tenant,
        messages=[pb.Message(role=message.role, content=message.content) for message in prompt.messages],
        max_tokens=prompt.max_tokens,
        temperature=prompt.temperature,
        seed=prompt.seed,
        stop=prompt.stop,
        adapter=prompt.adapter,
    )
