"""Measuring answers at a moment: pure functions over facts and answers.

Whether an answer kept to its moment is judged by the file of facts, never by what the answer says of itself alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Literal

from pipelines.evaluation.facts import YEAR, FactRow, by_question, normalise
from pipelines.evaluation.figures import Json, share
from services.common.moment import OPEN_END, OPEN_START, Span, coalesce, format_instant, parse_instant

_DAY = timedelta(days=1) // timedelta(microseconds=1)


def middle(span: Span) -> int:
    """The instant half-way; a year inside, where one end is open."""
    if span.start == OPEN_START and span.end == OPEN_END:
        return 0
    if span.start == OPEN_START:
        return span.end - YEAR
    if span.end == OPEN_END:
        return span.start + YEAR
    return (span.start + span.end) // 2


def gaps(spans: Iterable[Span]) -> list[Span]:
    """Where nothing holds: the year before the first span, and what lies between them."""
    joined = coalesce(spans)
    found = [Span(last.end, following.start) for last, following in pairwise(joined)]
    if joined and joined[0].start - YEAR > OPEN_START:
        found.insert(0, Span(joined[0].start - YEAR, joined[0].start))
    return found


Kind = Literal["span", "gap", "late"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to put at a moment, and what a right answer is taken from (`fact`, for the kind "span").

    `known_at` None: all that is on record. Of the kind "late" it lies before the fact of that moment was recorded.
    """

    kind: Kind
    question: str
    as_of: int
    known_at: int | None = None
    fact: FactRow | None = None

    def to_json(self) -> Json:
        """The moment as the gateway reads it, with the question."""
        known = {} if self.known_at is None else {"known_at": format_instant(self.known_at)}
        return {"question": self.question, "as_of": format_instant(self.as_of), **known}


def plan(facts: Sequence[FactRow]) -> list[Ask]:
    """Every fact in the middle of its span, once as all is known and once as known the day before it was recorded;
    every gap in its middle."""
    asks = [Ask("span", fact.question, middle(fact.valid), fact=fact) for fact in facts]
    asks += [Ask("late", fact.question, middle(fact.valid), max(fact.recorded_at - _DAY, OPEN_START)) for fact in facts]
    for question, rows in by_question(facts).items():
        asks += [Ask("gap", question, middle(gap)) for gap in gaps(row.valid for row in rows)]
    return asks


@dataclass(frozen=True, slots=True)
class Grade:
    """What one answer did: whether its first fact is right, how many facts it cites, how many times it leaks."""

    kind: Kind
    right: bool
    facts: int
    leaks: int


def grade(ask: Ask, answer: Json, facts: Sequence[FactRow]) -> Grade:
    """Judge an answer as the gateway gives it against all facts on file, with the record times they have there.

    A citation leaks if its span excludes the moment asked for, if it was recorded after the moment's `known_at`, or if
    it is a fact that the file does not hold for its question and that moment: in a gap, any fact of the question asked.
    A text leaks if it says an answer of the question that is not the moment's.
    """
    cited = [citation for citation in answer["citations"] if citation["kind"] == "fact"]
    right = bool(cited and ask.fact and ask.fact.accepts(cited[0]["quote"]))
    known_at = parse_instant(answer["moment"]["known_at"], "known_at") if ask.known_at is None else ask.known_at
    leaks = [
        citation
        for citation in answer["citations"]
        if _outside(citation, ask.as_of, known_at)
        or (citation["kind"] == "fact" and not _on_file(citation, ask, known_at, facts))
    ]
    said = not leaks and _says_hidden(answer["answer"], ask, known_at, facts)
    return Grade(ask.kind, right, len(cited), len(leaks) + said)


def _outside(citation: Json, as_of: int, known_at: int) -> bool:
    valid = Span(_bound(citation, "valid_from", OPEN_START), _bound(citation, "valid_to", OPEN_END))
    return as_of not in valid or _bound(citation, "recorded_from", OPEN_START) > known_at


def _bound(citation: Json, name: str, default: int) -> int:
    return parse_instant(citation[name], name) if citation.get(name) else default


def _on_file(citation: Json, ask: Ask, known_at: int, facts: Sequence[FactRow]) -> bool:
    """Whether the file holds the cited fact at the moment asked for; of another question, if it is cited as that."""
    about = normalise(citation.get("title") or ask.question)
    return any(
        fact.visible(ask.as_of, known_at) and normalise(fact.question) == about and fact.accepts(citation["quote"])
        for fact in facts
    )


def _says_hidden(text: str, ask: Ask, known_at: int, facts: Sequence[FactRow]) -> bool:
    mine = [fact for fact in facts if fact.question == ask.question and fact.accepts(text)]
    return bool(mine) and not any(fact.visible(ask.as_of, known_at) for fact in mine)


def asof_figures(grades: Sequence[Grade]) -> dict[str, float | int]:
    """accuracy: of answers at mid-span, a share; leaks: of all answers; gaps: how many answers in gaps cite a fact."""
    spans = [one for one in grades if one.kind == "span"]
    gapped = [one for one in grades if one.kind == "gap"]
    return {
        "accuracy": round(share(sum(one.right for one in spans), len(spans)), 4),
        "leaks": sum(one.leaks for one in grades),
        "gaps": sum(one.facts > 0 for one in gapped),
        "asked_spans": len(spans),
        "asked_late": len(grades) - len(spans) - len(gapped),
        "asked_gaps": len(gapped),
    }
