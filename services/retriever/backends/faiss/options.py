"""How generations are built and searched, whatever their funnels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """kind: of the coarse index, flat, ivf or hnsw. device: cpu or gpu. exact_below, build_above: as in
    RetrieverSettings."""

    kind: str = "ivf"
    device: str = "cpu"
    exact_below: int = 2_000
    build_above: int = 5_000
