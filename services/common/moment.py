"""Time, as Almanac means it: instants, spans, extents and the moment one question is asked at.

An instant is an int: microseconds since the Unix epoch, UTC. Spans are half-open. Valid time is when something is true
in the world; record time is when Almanac had it on record (Snodgrass, *Developing Time-Oriented Database Applications*,
2000, calls them valid and transaction time).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from services.common.errors import InvalidMoment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BARE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def instant(moment: datetime) -> int:
    """The instant of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


OPEN_START = instant(datetime(1, 1, 1, tzinfo=UTC))
OPEN_END = instant(datetime(9999, 12, 31, tzinfo=UTC))


def now() -> int:
    """The clock's instant."""
    return time.time_ns() // 1_000


def parse_instant(text: str, field: str = "instant") -> int:
    """Read an ISO 8601 date or datetime; a bare date means its start, a missing offset means UTC.

    Raises InvalidMoment, which names `field`, when the text is no date or lies outside the years 1 to 9999.
    """
    try:
        if _BARE_DATE.fullmatch(text.strip()):
            day = date.fromisoformat(text.strip())
            parsed = datetime(day.year, day.month, day.day, tzinfo=UTC)
        else:
            parsed = datetime.fromisoformat(text.strip())
            parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed
        found = instant(parsed)
    except (ValueError, OverflowError, TypeError, AttributeError):
        raise InvalidMoment(
            f"{field}: {str(text)[:60]!r} is not an ISO 8601 date or datetime; write 2019-03-01 or 2019-03-01T12:00:00Z"
        ) from None
    if not OPEN_START <= found <= OPEN_END:
        raise InvalidMoment(f"{field}: {text!r} lies outside the years 1 to 9999")
    return found


def format_instant(when: int) -> str:
    """ISO 8601 in UTC, with microseconds only where there are any."""
    return (_EPOCH + timedelta(microseconds=when)).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open stretch of one time axis, [start, end)."""

    start: int = OPEN_START
    end: int = OPEN_END

    def __contains__(self, when: int) -> bool:
        return self.start <= when < self.end

    def overlaps(self, other: Span) -> bool:
        return self.start < other.end and other.start < self.end

    def minus(self, other: Span) -> Iterator[Span]:
        """What is left of this span outside the other: none, one or two spans."""
        if not self.overlaps(other):
            yield self
            return
        if self.start < other.start:
            yield Span(self.start, other.start)
        if other.end < self.end:
            yield Span(other.end, self.end)


def coalesce(spans: Iterable[Span]) -> list[Span]:
    """Sorted, disjoint spans that cover the same instants, adjacent ones joined."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """A rectangle of valid × record time in which something is visible."""

    valid: Span
    recorded: Span

    def __contains__(self, moment: Moment) -> bool:
        return moment.as_of in self.valid and moment.known_at in self.recorded


@dataclass(frozen=True, slots=True)
class Moment:
    """What was true at `as_of`, as far as it was on record at `known_at`."""

    as_of: int
    known_at: int


def parse_as_of(text: str | None, clock: int) -> int:
    """Valid time may lie in the future; it defaults to the clock."""
    return clock if text is None else parse_instant(text, "as_of")


def parse_known_at(text: str | None, clock: int) -> int | None:
    """Record time may not lie in the future; None means the newest that every reader has applied."""
    if text is None:
        return None
    known_at = parse_instant(text, "known_at")
    if known_at > clock:
        raise InvalidMoment(f"known_at: {text!r} lies in the future; leave it out to use all that is on record")
    return known_at


def parse_span(valid_from: str | None, valid_to: str | None) -> tuple[int | None, int | None]:
    """Both ends of a validity, either of them open. Raises InvalidMoment if the end does not follow the start."""
    start = None if valid_from is None else parse_instant(valid_from, "valid_from")
    end = None if valid_to is None else parse_instant(valid_to, "valid_to")
    if end is not None and end <= (OPEN_START if start is None else start):
        raise InvalidMoment(f"valid_to: {valid_to!r} does not follow valid_from {valid_from!r}")
    return start, end
