"""The worker's settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.common.settings import Settings
from services.orchestrator.graph.names import ANSWER_QUEUE, INGEST_QUEUE
from services.orchestrator.graph.queues import answer_queues

_QUEUES = (ANSWER_QUEUE, INGEST_QUEUE)


class WorkerSettings(Settings):
    """Settings of the worker process."""

    worker_queues: Annotated[tuple[str, ...], NoDecode] = Field(
        _QUEUES, min_length=1, description="Comma-separated queues that a worker takes from."
    )
    worker_threads: int = Field(64, ge=1, le=512, description="Tasks a worker holds at once; they wait, not work.")
    passage_tokens: int = Field(256, ge=32, description="Largest passage, in the encoder's tokens.")
    sweep_seconds: float = Field(2.0, gt=0, description="How often the worker looks for abandoned work.")
    ingest_retries: int = Field(8, ge=0, description="Tries of an ingestion whose nodes do not answer, with backoff.")
    ingest_attempts: int = Field(5, ge=1, description="Workers a job may cost without a row done before it fails.")
    small_jobs: int = Field(4, ge=1, description="Small ingestions that a worker has in hand at once.")
    bulk_jobs: int = Field(1, ge=1, description="Bulk ingestions that a worker has in hand at once, beside small ones.")
    upload_days: float = Field(7.0, gt=0, description="How long the upload of a job that failed is kept for a retry.")
    reindex_share: float = Field(
        0.5, gt=0, le=1, description="Share of the time that work on generations beside the live one may take."
    )
    parser_processes: int = Field(2, ge=1, description="Processes that parse HTML, PDF, DOCX and Parquet files.")
    parser_seconds: float = Field(60.0, gt=0, description="Longest time one file may take to parse.")
    parser_memory_mib: int = Field(1024, ge=512, description="Most memory (address space) of a parser process, in MiB.")
    parser_text_mib: int = Field(16, ge=1, description="Most text of one document or row, in MiB.")
    parser_unpacked_mib: int = Field(256, ge=1, description="Most that a DOCX file may unpack to, in MiB.")

    @field_validator("worker_queues", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        """Names come as one comma-separated text."""
        return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else given

    @field_validator("worker_queues")
    @classmethod
    def _known(cls, queues: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(queues) - set(_QUEUES):
            raise ValueError(f"no queue is named {', '.join(sorted(unknown))}; there are {', '.join(_QUEUES)}")
        return queues

    @property
    def consumed(self) -> tuple[str, ...]:
        """The queues by the names they have in the broker."""
        return tuple(
            name
            for queue in self.worker_queues
            for name in (answer_queues(self.answer_queues) if queue == ANSWER_QUEUE else (queue,))
        )
