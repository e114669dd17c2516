from __future__ import annotations

import asyncio

from services.common.process import begin
from services.common.rpc.server import serve
from services.protos.retriever_pb2_grpc import add_RetrieverServicer_to_server
from services.retriever.retriever import build
from services.retriever.server import RetrieverServicer
from services.retriever.settings import RetrieverSettings


async def main() -> None:
    settings = RetrieverSettings()
    begin("retriever", settings)
    retriever = build(settings)
    await serve(
        settings.retriever_address,
        "almanac.retriever.v1.Retriever",
        lambda server: add_RetrieverServicer_to_server(RetrieverServicer(retriever), server),  # type: ignore[no-untyped-call]
        settings.shutdown_seconds,
    )
    await retriever.close()


if __name__ == "__main__":
    asyncio.run(main())
