"""The engines, chosen by name; an engine's libraries are imported only when it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec

from services.common.errors import InvalidRequest
from services.generator.backends.base import Backend
from services.generator.settings import GeneratorSettings

_PACKAGES = {"vllm": "vllm", "llamacpp": "xllamacpp"}


def _defaults(**environment: str) -> None:
    """Environment variables that an engine's libraries read when they are loaded.

    OMP_WAIT_POLICY: OpenMP's threads spin while they wait; beside one busy process on two cores 40 tokens of llama.cpp
    took 18 to 44 s that way, and 2 s with threads that sleep.
    """
    for name, value in environment.items():
        os.environ.setdefault(name, value)


def _llamacpp(settings: GeneratorSettings) -> Backend:
    _defaults(OMP_WAIT_POLICY="passive")
    from services.generator.backends.llamacpp import open_backend

    return open_backend(settings)


def _memory(settings: GeneratorSettings) -> Backend:
    from services.generator.backends.memory import MemoryBackend
    from services.generator.residency.choosing import chosen

    return MemoryBackend(
        slots=settings.generator_slots,
        context_tokens=settings.generator_context_tokens,
        pace=settings.generator_pace,
        keeper=chosen(settings),
    )


def _openai(settings: GeneratorSettings) -> Backend:
    from services.generator.backends.openai import open_backend

    return open_backend(settings)


def _vllm(settings: GeneratorSettings) -> Backend:
    # Read when vLLM is imported: no reports to its makers, and on a CPU all cores instead of one.
    cores = sorted(os.sched_getaffinity(0))[: settings.generator_threads or None]
    _defaults(
        OMP_WAIT_POLICY="passive",
        VLLM_CPU_OMP_THREADS_BIND=",".join(map(str, cores)),
        VLLM_LOGGING_LEVEL="WARNING",
        VLLM_NO_USAGE_STATS="1",
        VLLM_WORKER_MULTIPROC_METHOD="spawn",
    )
    from services.generator.backends.vllm import open_backend

    return open_backend(settings)


BACKENDS: Mapping[str, Callable[[GeneratorSettings], Backend]] = {
    "llamacpp": _llamacpp,
    "vllm": _vllm,
    "openai": _openai,
    "memory": _memory,
}


def open_backend(settings: GeneratorSettings) -> Backend:
    """The engine the settings name, or the one there is. Raises InvalidRequest for a name there is none of."""
    name = settings.generator_backend or default_backend(settings)
    opener = BACKENDS.get(name)
    if opener is None:
        raise InvalidRequest(f"generator_backend is {name!r}; choose one of: {', '.join(BACKENDS)}")
    if name in _PACKAGES and find_spec(_PACKAGES[name]) is None:
        raise InvalidRequest(f"generator_backend is {name!r}, and {_PACKAGES[name]} is not installed")
    return opener(settings)


def default_backend(settings: GeneratorSettings) -> str:
    if settings.generator_url:
        return "openai"
    return "vllm" if find_spec("vllm") else "llamacpp"
