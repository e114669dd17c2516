"""Measuring answers at a moment: pure functions over facts and answers.

Whether an answer kept to its moment is judged by the file of facts, never by what the answer says of itself alone.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pipelines.evaluation.figures import Json, read_lines, share
from services.common.errors import InvalidRequest
from services.common.moment import OPEN_END, OPEN_START, Span, coalesce, format_instant, parse_instant

_YEAR = timedelta(days=365) // timedelta(microseconds=1)
_WORD = re.compile(r"\w(?:[\w.&/'’-]*\w)?")
_OPENING = re.compile(
    "a|an|and|are|at|by|did|do|does|for|from|had|has|have|how|in|is|of|on|the|to|under|was|were|what|when|where|which|"
    "who|whom|whose|why"
)
"""Words that open a sentence without being part of a name."""


@dataclass(frozen=True, slots=True)
class FactRow:
    """One line of a file of facts: over `valid`, `answer` is right, and so is any of `also_accepted`."""

    question: str
    answer: str
    also_accepted: tuple[str, ...]
    valid: Span

    def accepts(self, text: str) -> bool:
        """Whether the text contains the answer or another accepted one, whole words, however it is written."""
        padded = f" {normalise(text)} "
        wanted = (normalise(answer) for answer in (self.answer, *self.also_accepted))
        return any(f" {answer} " in padded for answer in wanted if answer)


def load_facts(path: Path) -> list[FactRow]:
    """The facts of a JSONL file. Raises InvalidRequest, naming the line, for one that is none."""
    facts = []
    for number, row in read_lines(path):
        try:
            facts.append(_fact(row))
        except KeyError as error:
            raise InvalidRequest(f"{path}, line {number}: {error.args[0]} is missing") from None
        except InvalidRequest as error:
            raise InvalidRequest(f"{path}, line {number}: {error.detail}") from None
    return facts


def _fact(row: Json) -> FactRow:
    valid = Span(_bound(row, "valid_from", OPEN_START), _bound(row, "valid_to", OPEN_END))
    return FactRow(row["question"], row["answer"], tuple(row.get("also_accepted") or ()), valid)


def _bound(row: Json, name: str, default: int) -> int:
    return parse_instant(row[name], name) if row.get(name) else default


def normalise(text: str) -> str:
    """Lower case, punctuation as spaces, no runs of whitespace; compatible characters made equal (NFKC)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(char if char.isalnum() else " " for char in folded).split())


def middle(span: Span) -> int:
    """The instant half-way; a year inside, where one end is open."""
    if span.start == OPEN_START and span.end == OPEN_END:
        return 0
    if span.start == OPEN_START:
        return span.end - _YEAR
    if span.end == OPEN_END:
        return span.start + _YEAR
    return (span.start + span.end) // 2


def gaps(spans: Iterable[Span]) -> list[Span]:
    """Where nothing holds: the year before the first span, and what lies between them."""
    joined = coalesce(spans)
    found = [Span(last.end, following.start) for last, following in pairwise(joined)]
    if joined and joined[0].start - _YEAR > OPEN_START:
        found.insert(0, Span(joined[0].start - _YEAR, joined[0].start))
    return found


def names(question: str) -> list[str]:
    """Runs of capitalised words, without one that opens the sentence as any word would."""
    runs: list[tuple[int, int]] = []
    for word in _WORD.finditer(question):
        if not _capitalised(word.group(), opens=not question[: word.start()].strip(" \"'")):
            continue
        end = word.start() + len(re.sub(r"['’]s$", "", word.group()))
        if runs and question[runs[-1][1] : word.start()] == " ":
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((word.start(), end))
    return [question[start:end] for start, end in runs]


def _capitalised(word: str, opens: bool) -> bool:
    return word[0].isupper() and not (opens and _OPENING.fullmatch(word.casefold()))


def swap_entity(question: str, questions: Sequence[str], rng: random.Random) -> str | None:
    """The question about somebody else: its longest name replaced by the longest one of another question.

    None where it has no name, or no other name gives a question that is not among `questions`.
    """
    own = max(names(question), key=len, default=None)
    if own is None:
        return None
    others = {max(found, key=len) for other in questions if (found := names(other))} - {own}
    known = set(questions)
    swapped = [question.replace(own, other) for other in sorted(others)]
    return rng.choice([text for text in swapped if text not in known] or [None])


Kind = Literal["span", "gap", "swapped"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to put at a moment, and what a right answer is taken from (`fact`, for the kind "span")."""

    kind: Kind
    question: str
    as_of: int
    fact: FactRow | None = None


def plan(facts: Sequence[FactRow], seed: int = 0) -> list[Ask]:
    """Every fact asked in the middle of its span, every gap in its middle, every question once about somebody else."""
    rng = random.Random(seed)
    by_question: dict[str, list[FactRow]] = {}
    for fact in facts:
        by_question.setdefault(fact.question, []).append(fact)
    asks = [Ask("span", fact.question, middle(fact.valid), fact) for fact in facts]
    for question, rows in by_question.items():
        asks += [Ask("gap", question, middle(gap)) for gap in gaps(row.valid for row in rows)]
        swapped = swap_entity(question, list(by_question), rng)
        if swapped is not None:
            asks.append(Ask("swapped", swapped, middle(rows[0].valid)))
    return asks


@dataclass(frozen=True, slots=True)
class Grade:
    """What one answer did: whether its first fact is right, how many facts it cites, how many citations leak."""

    kind: Kind
    right: bool
    facts: int
    leaks: int


def grade(ask: Ask, answer: Json, facts: Sequence[FactRow]) -> Grade:
    """Judge an answer as the gateway gives it against all facts on file.

    A citation leaks if its span excludes the moment asked for, if it was recorded after the answer's `known_at`, or if
    it is a fact that the file does not hold for its question and that moment: in a gap, any fact of the question asked.
    """
    cited = [citation for citation in answer["citations"] if citation["kind"] == "fact"]
    right = bool(cited and ask.fact and ask.fact.accepts(cited[0]["quote"]))
    known_at = parse_instant(answer["moment"]["known_at"], "known_at")
    leaks = [
        citation
        for citation in answer["citations"]
        if _outside(citation, ask.as_of, known_at)
        or (citation["kind"] == "fact" and not _on_file(citation, ask, facts))
    ]
    return Grade(ask.kind, right, len(cited), len(leaks))


def _outside(citation: Json, as_of: int, known_at: int) -> bool:
    valid = Span(_bound(citation, "valid_from", OPEN_START), _bound(citation, "valid_to", OPEN_END))
    return as_of not in valid or _bound(citation, "recorded_from", OPEN_START) > known_at


def _on_file(citation: Json, ask: Ask, facts: Sequence[FactRow]) -> bool:
    """Whether the file holds the cited fact at the moment asked for; of another question, if it is cited as that."""
    about = normalise(citation.get("title") or ask.question)
    return any(
        ask.as_of in fact.valid and normalise(fact.question) == about and fact.accepts(citation["quote"])
        for fact in facts
    )


def asof_figures(grades: Sequence[Grade]) -> dict[str, float | int]:
    """accuracy: of answers at mid-span; gap_facts: answers in gaps that cite a fact; swapped_matched: a share."""
    spans = [one for one in grades if one.kind == "span"]
    swapped = [one for one in grades if one.kind == "swapped"]
    gapped = [one for one in grades if one.kind == "gap"]
    return {
        "accuracy": round(share(sum(one.right for one in spans), len(spans)), 4),
        "leaks": sum(one.leaks for one in grades),
        "gap_facts": sum(one.facts > 0 for one in gapped),
        "swapped_matched": round(share(sum(one.facts > 0 for one in swapped), len(swapped)), 4),
        "asked": len(grades),
        "asked_spans": len(spans),
        "asked_gaps": len(gapped),
        "asked_swapped": len(swapped),
    }


def written(as_of: int) -> str:
    """The instant as the gateway reads it."""
    return format_instant(as_of)
