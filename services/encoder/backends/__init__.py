"""The encoder's backends, by name; only the one chosen is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.common.errors import InvalidRequest
from services.common.models import ModelCache

if TYPE_CHECKING:
    from services.encoder.backends.base import Backend
    from services.encoder.settings import EncoderSettings


def choose(settings: EncoderSettings) -> Backend:
    if settings.encoder_backend == "memory":
        from services.encoder.backends.memory import MemoryBackend

        return MemoryBackend()
    cache = ModelCache(settings.models_dir)
    if settings.encoder_backend == "onnx":
        from services.encoder.backends.onnx import OnnxBackend

        return OnnxBackend(cache, settings.encoder_threads)
    try:
        from services.encoder.backends.sentence_transformers import SentenceTransformersBackend
    except ModuleNotFoundError as error:
        raise InvalidRequest(f"{error.name} is not installed; run `pip install 'almanac[torch]'`") from error

    return SentenceTransformersBackend(cache, settings.encoder_device, settings.encoder_threads)
