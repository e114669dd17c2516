"""The gateway's settings."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import Settings

MIB = 1024 * 1024


class GatewaySettings(Settings):
    """Settings of the gateway process."""

    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8420, ge=0, le=65535, description="Port the gateway listens on.")
    max_question_chars: int = Field(2_000, ge=1, description="Longest question or search text.")
    max_answer_tokens: int = Field(512, ge=1, description="Largest `max_tokens` of an answer.")
    max_body_bytes: int = Field(1 * MIB, ge=1_024, description="Largest JSON body that holds no documents or facts.")
    max_upload_bytes: int = Field(64 * MIB, ge=1, description="Largest upload, all of its files together.")
    bulk_bytes: int = Field(1 * MIB, ge=1, description="Uploads from this size on are bulk: small ones pass them.")
    max_upload_files: int = Field(1_000, ge=1, description="Most files in one upload.")
    answer_seconds: float = Field(60.0, gt=0, description="Every answer ends, well or badly, within this time.")
    heartbeat_seconds: float = Field(5.0, gt=0, description="Longest silence on an event stream.")
    shutdown_seconds: int = Field(5, ge=0, description="How long requests in flight may take to end at shutdown.")
    gateway_threads: int = Field(32, ge=1, description="Threads that wait for the catalog and the broker.")
