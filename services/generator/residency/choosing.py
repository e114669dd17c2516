"""The keeper that the settings ask for, and the sizes it reckons with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from services.common.disk import bytes_under
from services.generator.adapters import AdapterEntry
from services.generator.residency.keeper import Keeper
from services.generator.residency.policies import FOREVER_KEPT, KeepAlive, LearnedHazard, PoissonPreload, Policy
from services.generator.settings import GeneratorSettings, Residency

_MIB = 1 << 20

POLICIES: Mapping[Residency, Callable[[GeneratorSettings], Policy]] = {
    "learned": lambda settings: LearnedHazard(settings.generator_residency_seconds),
    "keep-alive": lambda settings: KeepAlive(settings.generator_residency_seconds),
    "preload": lambda settings: PoissonPreload(settings.generator_residency_window),
    "hold": lambda settings: PoissonPreload(settings.generator_residency_window, load=0.0),
    "stay": lambda settings: FOREVER_KEPT,
}


def chosen(settings: GeneratorSettings) -> Keeper:
    """A keeper of bytes, with the settings' policy and budget."""
    budget = settings.generator_residency_mib * _MIB or math.inf
    return Keeper(POLICIES[settings.generator_residency](settings), budget)


def sizes(entries: Mapping[str, AdapterEntry]) -> dict[str, int]:
    """Bytes of each adapter's file or directory; 0 where there is none."""
    return {name: size_of(Path(entry.source)) for name, entry in entries.items()}


def size_of(source: Path) -> int:
    return source.stat().st_size if source.is_file() else bytes_under(source)
