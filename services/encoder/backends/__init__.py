"""The encoder's backends, by name; only the one chosen is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.common.models import ModelCache

if TYPE_CHECKING:
    from services.encoder.backends.base import Backend
    from services.encoder.settings import EncoderSettings


def choose(settings: EncoderSettings) -> Backend:
    if settings.encoder_backend == "memory":
        from services.encoder.backends.memory import MemoryBackend

        return MemoryBackend()
    from services.encoder.backends.onnx import OnnxBackend

    assert settings.models_dir is not None
    return OnnxBackend(ModelCache(settings.models_dir), settings.encoder_threads)
