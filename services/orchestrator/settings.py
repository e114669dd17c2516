"""The worker's settings."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import Settings


class WorkerSettings(Settings):
    """Settings of the worker process."""

    worker_threads: int = Field(32, ge=1, le=512, description="Tasks a worker holds at once; they wait, not work.")
    passage_tokens: int = Field(256, ge=32, description="Largest passage, in the encoder's tokens.")
    sweep_seconds: float = Field(2.0, gt=0, description="How often the worker looks for abandoned work.")
    ingest_retries: int = Field(8, ge=0, description="Tries of an ingestion whose nodes do not answer, with backoff.")
