"""Whether what is asked and answered has changed between two windows of time.

The population stability index of two histograms, Σ (p − q) ln(p / q). By convention 0.1 is worth a look and 0.2 is a
shift. Where nothing has changed it still is (1/n + 1/m) times a chi-squared variable with one degree of freedom less
than there are bins (Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of Risk
Model Validation 14(4), 2020), so a shift is only one that such chance would hardly bring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SHIFT = 0.2
_PSEUDO = 0.5
"""Counted in every bin beside what was seen (Jeffreys), so that an empty bin is no infinite change."""
_NORMAL_999 = 3.0902
"""The normal distribution's quantile at 0.999: one false alarm in a thousand comparisons."""


@dataclass(frozen=True, slots=True)
class Shift:
    """`index` is the population stability index, `threshold` what it must reach to be a shift."""

    index: float
    threshold: float

    @property
    def shifted(self) -> bool:
        return self.index >= self.threshold


def compare(reference: Sequence[int], current: Sequence[int]) -> Shift | None:
    """Counts in the same bins; None where one of them has none."""
    n, m = sum(reference), sum(current)
    if not n or not m:
        return None
    used = [(a, b) for a, b in zip(reference, current, strict=True) if a or b]
    p = _shares([a for a, _ in used])
    q = _shares([b for _, b in used])
    index = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    chance = (1 / n + 1 / m) * chi_squared_999(len(used) - 1)
    return Shift(index, max(SHIFT, chance))


def chi_squared_999(freedom: int) -> float:
    """The quantile at 0.999, by Wilson and Hilferty (1931); at most 4 % too much."""
    if freedom < 1:
        return 0.0
    part = 2 / (9 * freedom)
    return freedom * (1 - part + _NORMAL_999 * math.sqrt(part)) ** 3


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + _PSEUDO * len(counts)
    return [(count + _PSEUDO) / total for count in counts]
