from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc

from services.common.nodes.generator import Adapter, Chunk, Prompt, Stats
from services.common.rpc.client import call, stream
from services.protos import generator_pb2 as pb
from services.protos.generator_pb2_grpc import GeneratorStub

GENERATE_SECONDS = 120.0
LOAD_SECONDS = 120.0


class GeneratorClient:
    """The generator, over gRPC."""

    def __init__(self, line: grpc.aio.Channel) -> None:
        self._stub = GeneratorStub(line)  # type: ignore[no-untyped-call]

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        async with aclosing(stream(self._stub.Generate, prompt_to_pb(prompt), GENERATE_SECONDS)) as responses:
            async for piece in responses:
                yield chunk_from_pb(piece)

    async def models(self, tenant: str = "") -> list[str]:
        return list((await call(self._stub.Models, pb.ModelsRequest(tenant=tenant))).names)

    async def adapters(self, tenant: str) -> list[Adapter]:
        answer = await call(self._stub.Adapters, pb.AdaptersRequest(tenant=tenant))
        return [adapter_from_pb(one) for one in answer.adapters]

    async def load(self, tenant: str, adapter: str, pinned: bool = False) -> None:
        await call(self._stub.Load, pb.LoadRequest(tenant=tenant, adapter=adapter, pinned=pinned), LOAD_SECONDS)

    async def unload(self, tenant: str, adapter: str) -> None:
        await call(self._stub.Unload, pb.UnloadRequest(tenant=tenant, adapter=adapter))

    async def stats(self) -> Stats:
        told = await call(self._stub.Stats, pb.StatsRequest())
        return Stats(told.running, told.waiting, told.kv_usage, told.prefix_queries, told.prefix_hits, told.preemptions)


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


def adapter_from_pb(told: pb.Adapter) -> Adapter:
    counts = (told.loads, told.cold_starts, told.resident_seconds)
    return Adapter(told.name, told.loaded, told.pinned, told.size_bytes, *counts)


def chunk_from_pb(piece: pb.GenerateResponse) -> Chunk:
    return Chunk(piece.text, piece.finish_reason, piece.prompt_tokens, piece.completion_tokens, piece.cached_tokens)
