"""How fast a job goes, from how it stood over the last minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Mark = Sequence[int]
"""[time in microseconds, cursor, passages]."""

WINDOW_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """Input rows and passages a second."""

    rows: float
    passages: float

    def eta_seconds(self, left: int) -> float | None:
        """None while nothing moves."""
        return left / self.rows if self.rows > 0 else None


def marked(pace: Sequence[Mark], clock: int, cursor: int, passages: int) -> list[Mark]:
    """The marks with one more, none older than a minute but the first that is needed to look back so far."""
    marks = [*pace, [clock, cursor, passages]]
    recent = sum(1 for mark in marks if mark[0] > clock - WINDOW_US)
    return marks[-(recent + 1) :]


def rate(pace: Sequence[Mark], clock: int) -> Rate | None:
    """The speed up to now, which falls while nothing moves; None before the first second has passed."""
    if not pace or clock - pace[0][0] < 1_000_000:
        return None
    first, last = pace[0], pace[-1]
    seconds = (clock - first[0]) / 1_000_000
    return Rate((last[1] - first[1]) / seconds, (last[2] - first[2]) / seconds)
