"""The log of one timeline, read naively: what it says at a moment, and how far an assertion without an end reaches.

Nothing here is taken from the algebra that the catalog uses (`services/common/timeline.py`): the newest entry that
covers an instant is found by walking the whole log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.common.moment import OPEN_END, OPEN_START


@dataclass(frozen=True)
class Entry:
    """From `start` to `end`, the content, or nothing; on record since `recorded`."""

    start: int
    end: int
    recorded: int
    content: str | None


@dataclass
class Log:
    """An append-only log."""

    entries: list[Entry] = field(default_factory=list)

    def at(self, as_of: int, known_at: int) -> str | None:
        """The content of the last entry on record by then that covers the instant."""
        said = None
        for entry in self.entries:
            if entry.recorded <= known_at and entry.start <= as_of < entry.end:
                said = entry.content
        return said

    def runs(self) -> Iterator[tuple[int, int, str]]:
        """The newest record: (start, end, content) of each stretch over which one and the same entry is the last."""
        edges = sorted({edge for entry in self.entries for edge in (entry.start, entry.end)})
        begun, owner = 0, None
        for edge in edges:
            here = next((entry for entry in reversed(self.entries) if entry.start <= edge < entry.end), None)
            if here is not owner:
                if owner is not None and owner.content is not None:
                    yield begun, edge, owner.content
                begun, owner = edge, here

    def say(self, start: int | None, end: int | None, content: str, recorded: int) -> bool:
        """Assert the content; undated, `start` is None. False if the newest record says so already.

        Raises ValueError for a span that ends before it starts.
        """
        runs = list(self.runs())
        if start is None:
            if any(said == content and (first <= recorded < last or last == end) for first, last, said in runs):
                return False
            start = recorded if runs else OPEN_START
        if end is None:
            edges = [edge for first, last, _ in runs for edge in (first, last)]
            end = min((edge for edge in edges if edge > start), default=OPEN_END)
        if end <= start:
            raise ValueError
        if self._says(runs, start, end, content):
            return False
        self.entries.append(Entry(start, end, recorded, content))
        return True

    def end(self, start: int | None, end: int | None, recorded: int) -> bool:
        """Withdraw a span, as wide as it is given. False if nothing is said there."""
        start, end = recorded if start is None else start, OPEN_END if end is None else end
        if end <= start:
            raise ValueError
        if not any(first < end and start < last for first, last, _ in self.runs()):
            return False
        self.entries.append(Entry(start, end, recorded, None))
        return True

    @staticmethod
    def _says(runs: list[tuple[int, int, str]], start: int, end: int, content: str) -> bool:
        """Whether every instant of the span is said to be the content."""
        reached = start
        for first, last, said in runs:
            if first <= reached < last and reached < end:
                if said != content:
                    return False
                reached = last
        return reached >= end
