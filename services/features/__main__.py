"""Serve the features node."""

from __future__ import annotations

import asyncio

import structlog

from services.common.process import begin
from services.common.rpc.server import serve
from services.features.features import PointInTimeFeatures, build
from services.features.server import FeaturesServicer
from services.features.settings import FeaturesSettings
from services.protos.features_pb2_grpc import add_FeaturesServicer_to_server


async def main() -> None:
    settings = FeaturesSettings()
    begin("features", settings)
    features = build(settings)
    servicer = FeaturesServicer(features)
    preparing = asyncio.create_task(_prepare(features))
    await serve(
        settings.features_address,
        "almanac.features.v1.Features",
        lambda server: add_FeaturesServicer_to_server(servicer, server),  # type: ignore[no-untyped-call]
        settings.shutdown_seconds,
    )
    preparing.cancel()


async def _prepare(features: PointInTimeFeatures) -> None:
    """Reads at a moment go on without it; materialize tries again."""
    try:
        await features.prepare()
    except Exception:
        structlog.get_logger().exception("prepare_failed")


if __name__ == "__main__":
    asyncio.run(main())
