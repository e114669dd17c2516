"""The engines, chosen by name; an engine's libraries are imported only when it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from services.common.errors import InvalidRequest
from services.generator.backends.base import Backend
from services.generator.settings import GeneratorSettings


def _llamacpp(settings: GeneratorSettings) -> Backend:
    # Read when libgomp is loaded. Its threads spin while they wait; beside one busy process on two cores 40 tokens took
    # 18 to 44 s that way, and 2 s with threads that sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from services.generator.backends.llamacpp import open_backend

    return open_backend(settings)


def _memory(settings: GeneratorSettings) -> Backend:
    from services.generator.backends.memory import MemoryBackend

    return MemoryBackend(
        slots=settings.generator_slots,
        context_tokens=settings.generator_context_tokens,
        pace=settings.generator_pace,
        adapters=tuple(settings.generator_adapters),
    )


BACKENDS: Mapping[str, Callable[[GeneratorSettings], Backend]] = {"llamacpp": _llamacpp, "memory": _memory}


def open_backend(settings: GeneratorSettings) -> Backend:
    """The engine the settings name. Raises InvalidRequest for a name there is none of."""
    opener = BACKENDS.get(settings.generator_backend)
    if opener is None:
        known = ", ".join(BACKENDS)
        raise InvalidRequest(f"generator_backend is {settings.generator_backend!r}; choose one of: {known}")
    return opener(settings)
