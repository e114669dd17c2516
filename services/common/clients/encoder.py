from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import grpc

from services.common.clients import wire
from services.common.coalescing import Coalescer
from services.common.nodes.encoder import ModelInfo, TextKind, Vectors
from services.common.rpc.client import call
from services.protos import encoder_pb2 as pb
from services.protos.encoder_pb2_grpc import EncoderStub

KIND = {TextKind.QUERY: pb.TEXT_KIND_QUERY, TextKind.PASSAGE: pb.TEXT_KIND_PASSAGE}


FEW = 16
_FULL = 32
"""So many texts cost an encoder 50 ms or more, beside which their message costs little."""


class EncoderClient:
    """The encoder, over gRPC. Concurrent calls of few texts share messages; one of more is worth its own."""

    def __init__(self, line: grpc.aio.Channel, few: int = FEW) -> None:
        """few: the most texts of a call that shares a message; 0: none does."""
        self._few = few
        self._stub = EncoderStub(line)  # type: ignore[no-untyped-call]
        self._coalescers: dict[tuple[str, TextKind], Coalescer[str, Vectors]] = {}

    async def encode(self, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
        if not 0 < len(texts) <= self._few:
            return await self._encode(model, kind, texts)
        if (model, kind) not in self._coalescers:
            self._coalescers[model, kind] = Coalescer(partial(self._encode, model, kind), _FULL)
        return await self._coalescers[model, kind].call(texts)

    async def _encode(self, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
        request = pb.EncodeRequest(model=model, kind=KIND[kind], texts=texts)
        return wire.tensor_from_pb((await call(self._stub.Encode, request)).vectors)

    async def models(self) -> list[ModelInfo]:
        answer = await call(self._stub.Models, pb.ModelsRequest())
        return [ModelInfo(model.name, model.dimensions, model.max_tokens) for model in answer.models]
