"""Serve the generator."""

from __future__ import annotations

import asyncio

from services.common.process import begin
from services.common.rpc.server import serve
from services.generator.generator import build
from services.generator.metrics import follow
from services.generator.server import GeneratorServicer
from services.generator.settings import GeneratorSettings
from services.protos.generator_pb2_grpc import add_GeneratorServicer_to_server


async def main() -> None:
    settings = GeneratorSettings()
    begin("generator", settings)
    generator = build(settings)
    following = asyncio.create_task(follow(generator.stats))
    try:
        await generator.start()
        servicer = GeneratorServicer(generator)
        await serve(
            settings.generator_address,
            "almanac.generator.v1.Generator",
            lambda server: add_GeneratorServicer_to_server(servicer, server),  # type: ignore[no-untyped-call]
            settings.shutdown_seconds,
        )
    finally:
        following.cancel()
        await generator.close()


if __name__ == "__main__":
    asyncio.run(main())
