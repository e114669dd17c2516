from __future__ import annotations

from collections.abc import Sequence

import grpc

from services.common.clients import wire
from services.common.nodes.encoder import ModelInfo, TextKind, Vectors
from services.common.rpc.client import call
from services.protos import encoder_pb2 as pb
from services.protos.encoder_pb2_grpc import EncoderStub

KIND = {TextKind.QUERY: pb.TEXT_KIND_QUERY, TextKind.PASSAGE: pb.TEXT_KIND_PASSAGE}


class EncoderClient:
    """The encoder, over gRPC."""

    def __init__(self, line: grpc.aio.Channel) -> None:
        self._stub = EncoderStub(line)  # type: ignore[no-untyped-call]

    async def encode(self, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
        request = pb.EncodeRequest(model=model, kind=KIND[kind], texts=texts)
        return wire.tensor_from_pb((await call(self._stub.Encode, request)).vectors)

    async def models(self) -> list[ModelInfo]:
        answer = await call(self._stub.Models, pb.ModelsRequest())
        return [ModelInfo(model.name, model.dimensions, model.max_tokens) for model in answer.models]
