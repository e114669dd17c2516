from __future__ import annotations

import asyncio

from services.common.process import begin
from services.common.rpc.server import serve
from services.encoder.encoder import build
from services.encoder.server import EncoderServicer
from services.encoder.settings import EncoderSettings
from services.protos.encoder_pb2_grpc import add_EncoderServicer_to_server


async def main() -> None:
    settings = EncoderSettings()
    begin("encoder", settings)
    encoder = build(settings)
    await encoder.load(settings.encoder_model)
    await serve(
        settings.encoder_address,
        "almanac.encoder.v1.Encoder",
        lambda server: add_EncoderServicer_to_server(EncoderServicer(encoder), server),  # type: ignore[no-untyped-call]
        settings.shutdown_seconds,
    )
    encoder.close()


if __name__ == "__main__":
    asyncio.run(main())
