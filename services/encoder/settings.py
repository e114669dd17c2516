from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.common.settings import Settings


class EncoderSettings(Settings):
    """Settings of the encoder."""

    encoder_backend: Literal["onnx", "sentence-transformers", "memory"] = Field(
        "onnx", description="What computes vectors; `sentence-transformers` needs the extra `torch`."
    )
    encoder_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where `sentence-transformers` computes; `auto`: on a GPU if torch finds one."
    )
    encoder_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated names of the models served beside `encoder_model`, each loaded when first asked "
        "for. Default: every encoder of the manifest that the backend can read.",
    )
    encoder_batch_size: int = Field(64, ge=1, description="Most texts in one batch of the engine.")
    encoder_batch_tokens: int = Field(
        0, ge=0, description="Most tokens in one batch, padding included; 0: what suits the device."
    )
    encoder_lanes: int = Field(
        0, ge=0, description="Batches of queries computed side by side; 0: two on a CPU, one on a GPU."
    )
    encoder_batch_delay_ms: float = Field(
        0.0,
        ge=0,
        description="How long the engine waits, after a batch that several calls shared, for as many to come back. "
        "What comes while it is idle never waits.",
    )
    encoder_threads: int = Field(0, ge=0, description="Threads of the engine; 0: one per core.")

    @field_validator("encoder_models", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value
