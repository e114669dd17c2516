"""What every measurement shares: rows in, figures out, and the targets they are held against."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from services.common.errors import InvalidRequest

Json = Mapping[str, Any]
Targets = Mapping[str, Mapping[Literal["min", "max"], float]]


def read_lines(path: Path) -> Iterator[tuple[int, Json]]:
    """The rows of a JSONL file, gzipped or not, with their line numbers. Raises InvalidRequest for a bad one."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidRequest(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise InvalidRequest(f"{path}, line {number}: an object is needed")
            yield number, row


def share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0


def holds(figures: Mapping[str, float | int], targets: Targets) -> bool:
    """Whether every figure with a target reaches it."""
    return all(
        target.get("min", -math.inf) <= figures[name] <= target.get("max", math.inf) for name, target in targets.items()
    )
