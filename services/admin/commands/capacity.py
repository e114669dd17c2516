"""`almanac capacity`: what so many passages and questions a second need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from services.admin.context import AsJson

_Passages = Annotated[int, typer.Option(help="Passages, of some 120 words each.", min=0)]
_Questions = Annotated[float, typer.Option(help="Questions a second.", min=0)]
_Seconds = Annotated[float, typer.Option(help="Seconds the generator takes for one answer.", min=0.1)]
_Config = Annotated[Path | None, typer.Option(help="The generator's `config.json`, for its key-value cache.")]
_Tokens = Annotated[int, typer.Option(help="Tokens of prompt and answer together.", min=1)]


def capacity(
    passages: _Passages = 100_000,
    questions: _Questions = 1.0,
    seconds: _Seconds = 4.0,
    config: _Config = None,
    tokens: _Tokens = 2048,
    as_json: AsJson = False,
) -> None:
    """Reckon disk, memory, cores and key-value cache, by the model of docs/capacity.md."""
    from services.admin import capacity as model
    from services.admin.render import print_json, table

    decoded = model.slots(questions, seconds)
    found: dict[str, Mapping[str, float]] = {
        "storage_mib": model.storage(passages),
        "cores": model.cores(questions),
        "generator": {"slots": decoded, "tokens": tokens},
    }
    if config is not None:
        cache = decoded * model.Model.read(config).cache_bytes(tokens)
        found["generator"] = {**found["generator"], "cache_mib": round(cache / (1 << 20))}
    if as_json:
        print_json(found)
    else:
        table(("", "", ""), [(group, name, value) for group, each in found.items() for name, value in each.items()])
