"""What the encoder counts."""

from __future__ import annotations

from prometheus_client import Histogram

from services.common.metrics import REGISTRY, SECONDS

WAIT_SECONDS = Histogram(
    "almanac_encoder_wait_seconds",
    "Seconds until all texts of a call were in a batch: what more encoders would shorten.",
    buckets=SECONDS,
    registry=REGISTRY,
)
BATCH_TEXTS = Histogram(
    "almanac_encoder_batch_texts", "Texts in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=REGISTRY
)
