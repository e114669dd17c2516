"""The backends by name; only the chosen one is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.common.errors import InvalidRequest
from services.features.backends.base import Backend
from services.features.settings import FeaturesSettings


def _memory(settings: FeaturesSettings) -> Backend:
    from services.features.backends.memory import MemoryBackend

    return MemoryBackend()


def _feast(settings: FeaturesSettings) -> Backend:
    from services.features.backends.feast import FeastBackend

    return FeastBackend(settings.directory, settings.features_online_redis, settings.features_buffer_rows)


BACKENDS: Mapping[str, Callable[[FeaturesSettings], Backend]] = {"feast": _feast, "memory": _memory}


def open_backend(settings: FeaturesSettings) -> Backend:
    """The backend the settings name. Raises InvalidRequest for a name there is none of."""
    try:
        opener = BACKENDS[settings.features_backend]
    except KeyError:
        raise InvalidRequest(
            f"ALMANAC_FEATURES_BACKEND: there is no backend {settings.features_backend!r}; "
            f"there are {', '.join(sorted(BACKENDS))}"
        ) from None
    return opener(settings)
