"""Protobuf in and out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from services.common.nodes.generator import Chunk, ManagedGenerator, Message, Prompt
from services.protos import generator_pb2 as pb
from services.protos.generator_pb2_grpc import GeneratorServicer as Base


class GeneratorServicer(Base):
    """The generator, over gRPC; a cancelled call closes the iterator."""

    def __init__(self, generator: ManagedGenerator) -> None:
        self._generator = generator

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncGenerator[pb.GenerateResponse, None]:
        async with aclosing(self._generator.generate(prompt_from_pb(request))) as chunks:
            async for chunk in chunks:
                yield chunk_to_pb(chunk)

    async def Models(self, request: pb.ModelsRequest, context: Any) -> pb.ModelsResponse:
        return pb.ModelsResponse(names=await self._generator.models(request.tenant))

    async def Adapters(self, request: pb.AdaptersRequest, context: Any) -> pb.AdaptersResponse:
        held = await self._generator.adapters(request.tenant)
        return pb.AdaptersResponse(adapters=[pb.Adapter(**asdict(one)) for one in held])

    async def Load(self, request: pb.LoadRequest, context: Any) -> pb.LoadResponse:
        await self._generator.load(request.tenant, request.adapter, request.pinned)
        return pb.LoadResponse()

    async def Unload(self, request: pb.UnloadRequest, context: Any) -> pb.UnloadResponse:
        await self._generator.unload(request.tenant, request.adapter)
        return pb.UnloadResponse()

    async def Stats(self, request: pb.StatsRequest, context: Any) -> pb.StatsResponse:
        return pb.StatsResponse(**asdict(await self._generator.stats()))


def prompt_from_pb(request: pb.GenerateRequest) -> Prompt:
    return Prompt(
        tenant=request.tenant,
        messages=tuple(Message(message.role, message.content) for message in request.messages),
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        stop=tuple(request.stop),
        adapter=request.adapter,
    )


def chunk_to_pb(chunk: Chunk) -> pb.GenerateResponse:
    return pb.GenerateResponse(
        text=chunk.text,
        finish_reason=chunk.finish_reason,
        prompt_tokens=chunk.prompt_tokens,
        completion_tokens=chunk.completion_tokens,
        cached_tokens=chunk.cached_tokens,
    )
