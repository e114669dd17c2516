from __future__ import annotations

from typing import Any

from services.common.clients import wire
from services.common.clients.encoder import KIND
from services.common.errors import InvalidRequest
from services.common.nodes.encoder import Encoder
from services.protos import encoder_pb2 as pb
from services.protos.encoder_pb2_grpc import EncoderServicer as Servicer

_KIND_FROM_PB = {value: kind for kind, value in KIND.items()}


class EncoderServicer(Servicer):
    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    async def Encode(self, request: pb.EncodeRequest, context: Any) -> pb.EncodeResponse:
        kind = _KIND_FROM_PB.get(request.kind)
        if kind is None:
            raise InvalidRequest("say whether the texts are queries or passages: `kind` is missing")
        vectors = await self._encoder.encode(request.model, kind, list(request.texts))
        return pb.EncodeResponse(vectors=wire.tensor_to_pb(vectors))

    async def Models(self, request: pb.ModelsRequest, context: Any) -> pb.ModelsResponse:
        models = await self._encoder.models()
        return pb.ModelsResponse(
            models=[pb.Model(name=m.name, dimensions=m.dimensions, max_tokens=m.max_tokens) for m in models]
        )
