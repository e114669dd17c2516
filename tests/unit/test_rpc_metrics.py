"""What a node counts of its calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.clients.encoder import EncoderClient
from services.common.errors import ModelNotFound
from services.common.metrics import REGISTRY
from services.common.nodes.encoder import TextKind
from services.common.rpc.client import channel
from services.common.rpc.server import start
from services.encoder.server import EncoderServicer
from services.protos.encoder_pb2_grpc import add_EncoderServicer_to_server
from tests.fakes.encoder import FakeEncoder

METHOD = "almanac.encoder.v1.Encoder/Encode"


def counted(code: str) -> float:
    return REGISTRY.get_sample_value("almanac_grpc_calls_total", {"method": METHOD, "code": code}) or 0.0


class Encoder(FakeEncoder):
    async def encode(self, model, kind, texts):
        if model == "none":
            raise ModelNotFound("no such model")
        return await super().encode(model, kind, texts)


async def test_calls_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    before = counted("OK"), counted("NOT_FOUND")
    address = f"unix:{tmp_path}/e.sock"
    server = await start(
        address,
        "almanac.encoder.v1.Encoder",
        lambda one: add_EncoderServicer_to_server(EncoderServicer(Encoder()), one),
    )
    async with channel(address) as line:
        encoder = EncoderClient(line)
        await encoder.encode("all-MiniLM-L6-v2", TextKind.QUERY, ["a"])
        with pytest.raises(ModelNotFound):
            await encoder.encode("none", TextKind.QUERY, ["a"])
    await server.stop(None)
    assert (counted("OK"), counted("NOT_FOUND")) == (before[0] + 1, before[1] + 1)
