"""The date or period that a question names, as a proposal for the moment it is asked about.

Years by rules; days, months and "two years ago" by dateparser, which is imported for such words only (0.3 s, once).
"""

from __future__ import annotations

import re
from calendar import isleap, monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from services.common.moment import Span, format_instant, instant

_YEARS = range(1000, 3000)
_YEAR = r"(?:1\d{3}|2\d{3})"
_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?"
)
_WEEKDAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_DAY = r"(?:[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
_COUNT = r"(?:a|an|one|two|three|four|five|six|seven|eight|nine|ten|\d{1,4})"
_UNIT = r"(?:day|week|month|year|decade)s?"
_DATED = rf"""(?:
    {_YEAR}-\d\d-\d\d
    | (?:the\s+)?{_DAY}\s+(?:of\s+)?{_MONTH},?\s+{_YEAR}
    | {_MONTH}\s+{_DAY},?\s+{_YEAR}
    | {_MONTH},?\s+(?:of\s+)?{_YEAR}
)"""
_RELATIVE = rf"""(?:
    the\s+day\s+before\s+yesterday | yesterday
    | last\s+(?:{_MONTH}|{_WEEKDAY}|week|month|year)
    | {_COUNT}\s+{_UNIT}\s+ago
)"""
_BEFORE = r"before|until|till|prior\s+to|up\s+to"
_AT = r"in|on|during|at|by|as\s+of|as\s+at|around|circa|back\s+in|throughout|of|for"
_PART = r"(?:(?P<part>early|mid|middle\s+of|late|beginning\s+of|end\s+of)[\s-]+(?:the\s+)?)?"

_NAMED = re.compile(
    rf"\b(?:(?:(?P<before>{_BEFORE})|{_AT})\s+(?:the\s+)?)?{_PART}(?P<date>{_DATED}|{_RELATIVE})(?!\w)",
    re.IGNORECASE | re.VERBOSE,
)
_YEARLY = re.compile(
    rf"""\b(?:
        (?:(?P<before>{_BEFORE})|{_AT})\s+(?:the\s+)?{_PART}(?:year\s+)?(?P<year>{_YEAR})
            (?![\w%°]|[-–/.,:]\d|\s+(?:people|men|women|miles|km|years|days|feet|metres|meters|dollars|percent)\b)
        | (?:the|a)\s+(?P<of>{_YEAR})\s+(?=[a-z])
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_OPENING = re.compile(rf"^\s*(?P<year>{_YEAR})\s*[,:]\s+(?=\w)")
_ARTICLE = re.compile(rf"\b(?:the|a)\s+{_YEAR}\s*$", re.IGNORECASE)
_NOUN = re.compile(r"\s*[^\W\d_]+")
_SPOKEN = re.compile(rf"{_YEAR}|\b(?:yesterday|ago|last)\b", re.IGNORECASE)
_LAST_MONTH = re.compile(rf"^last\s+(?=(?:{_MONTH}|{_WEEKDAY})$)", re.IGNORECASE)
_ENDS = {"early": 1 / 3, "beginning of": 1 / 3, "mid": 2 / 3, "middle of": 2 / 3, "late": 1.0, "end of": 1.0}
"""How far into a period its part reaches."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A period that a question names, by the words `phrase`. instants: to be tried as `as_of`, in this order."""

    phrase: str
    instants: tuple[int, ...]


def speaks_of_time(question: str) -> bool:
    """Whether it is worth looking for a date: a year, "last", "ago" or "yesterday" is in it."""
    return _SPOKEN.search(question) is not None


def proposed(question: str, clock: int) -> Proposal | None:
    """What a question proposes as its moment, None where it names no date, or one that goes on at the clock.

    Of a period its last instant is tried first, for by then all that it brought has begun, and then its first; of
    what is before a period, the last instant before it. Two dates name none: it could be either.
    """
    found = [*_years(question), *_dates(question, clock)]
    if len({span for _, span, _ in found}) != 1:
        return None
    phrase, span, before = found[0]
    if before:
        return Proposal(phrase, (span.start - 1,))
    return None if clock in span else Proposal(phrase, (span.end - 1, span.start))


_Found = tuple[str, Span, bool]


def _years(question: str) -> list[_Found]:
    matches = [*_YEARLY.finditer(_NAMED.sub(_blank, question)), *_OPENING.finditer(question)]
    return [_year_found(match, question) for match in matches]


def _year_found(match: re.Match[str], question: str) -> _Found:
    named = match.groupdict()
    year = int(named["year"] or named.get("of") or 0)
    noun = _NOUN.match(question, match.end()) if _ARTICLE.search(match[0]) else None
    phrase = question[match.start() : noun.end() if noun else match.end()].strip(" ,:")
    return phrase, _part(_year(year), named.get("part")), bool(named.get("before"))


def _dates(question: str, clock: int) -> list[_Found]:
    found = []
    for match in _NAMED.finditer(question):
        span = _read(match["date"], clock)
        if span is not None:
            found.append((match[0].strip(), _part(span, match["part"]), bool(match["before"])))
    return found


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _read(text: str, clock: int) -> Span | None:
    """The period of a date or of "last March", by dateparser; None for what is no date, like 31 June."""
    spoken = _LAST_MONTH.sub("", re.sub(r"^the\s+(?=\d)", "", text, flags=re.IGNORECASE))
    read = _parser(format_instant(clock)[:10]).get_date_data(spoken)
    if read.date_obj is None:
        return None
    day = datetime(read.date_obj.year, read.date_obj.month, read.date_obj.day, tzinfo=UTC)
    match read.period:
        case "year":
            return _year(day.year)
        case "month":
            first = day.replace(day=1)
            return _span(first, monthrange(day.year, day.month)[1])
        case "week":
            return _span(day - timedelta(days=day.weekday()), 7)
    return _span(day, 1)


@lru_cache(maxsize=4)
def _parser(today: str) -> Any:
    """A reader of English dates; what is relative is relative to today, an ISO date."""
    from dateparser.date import DateDataParser

    settings = {
        "RELATIVE_BASE": datetime.fromisoformat(today),
        "PREFER_DATES_FROM": "past",
        "TIMEZONE": "UTC",
        "DATE_ORDER": "DMY",
    }
    return DateDataParser(languages=["en"], settings=settings)


def _year(year: int) -> Span:
    return _span(datetime(year, 1, 1, tzinfo=UTC), 365 + isleap(year))


def _span(first: datetime, days: int) -> Span:
    start = instant(first)
    return Span(start, start + days * 86_400_000_000)


def _part(span: Span, part: str | None) -> Span:
    """The span as far as "early" or "mid" reaches."""
    reach = _ENDS[" ".join(part.lower().split())] if part else 1.0
    return span if reach == 1.0 else Span(span.start, span.start + int((span.end - span.start) * reach))
