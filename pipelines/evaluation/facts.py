"""The facts that answers at a moment are measured with: read from a file, and given record times of their own."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from pipelines.evaluation.figures import Json, read_lines
from services.common.errors import InvalidRequest
from services.common.moment import OPEN_END, OPEN_START, Span, format_instant, parse_instant

YEAR = timedelta(days=365) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class FactRow:
    """One line of a file of facts: over `valid`, `answer` is right, and so is any of `also_accepted`.

    `source` is the page it is taken from, `recorded_at` the record time it is imported with.
    """

    question: str
    answer: str
    also_accepted: tuple[str, ...]
    valid: Span
    question_id: str = ""
    source: str = ""
    recorded_at: int = OPEN_START

    def accepts(self, text: str) -> bool:
        """Whether the text contains the answer or another accepted one, whole words, however it is written."""
        padded = f" {normalise(text)} "
        wanted = (normalise(answer) for answer in (self.answer, *self.also_accepted))
        return any(f" {answer} " in padded for answer in wanted if answer)

    def visible(self, as_of: int, known_at: int) -> bool:
        return as_of in self.valid and self.recorded_at <= known_at

    def to_json(self) -> Json:
        """The fact as a line of a history to import."""
        given = {
            "question_id": self.question_id,
            "question": self.question,
            "answer": self.answer,
            "also_accepted": list(self.also_accepted),
            "source": self.source,
        }
        bounds = {"valid_from": self.valid.start, "valid_to": self.valid.end, "recorded_at": self.recorded_at}
        return {
            **{name: value for name, value in given.items() if value},
            **{name: format_instant(at) for name, at in bounds.items() if OPEN_START < at < OPEN_END},
        }


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
    accepted = tuple(row.get("also_accepted") or ())
    named = str(row.get("question_id") or ""), str(row.get("source") or "")
    return FactRow(row["question"], row["answer"], accepted, valid, *named)


def _bound(row: Json, name: str, default: int) -> int:
    return parse_instant(row[name], name) if row.get(name) else default


def recorded_late(facts: Iterable[FactRow], by: int, clock: int) -> list[FactRow]:
    """The facts as a history: each recorded so many microseconds after it began, and none after the clock.

    No two share a record time, so that what was on record before each of them is certain.
    """
    ordered = sorted(facts, key=lambda fact: (fact.valid.start, fact.question, fact.answer))
    found = list[FactRow]()
    for left, fact in zip(range(len(ordered), 0, -1), ordered, strict=True):
        after = found[-1].recorded_at + _APART if found else OPEN_START + _APART
        found.append(replace(fact, recorded_at=min(max(after, fact.valid.start + by), clock - left * _APART)))
    return found


_APART = 1_000_000


def undated(facts: Iterable[FactRow]) -> list[FactRow]:
    """One fact for each question, its first, valid for ever: where it is not found, the question was not matched."""
    first = dict[str, FactRow]()
    for fact in facts:
        first.setdefault(fact.question, replace(fact, valid=Span(OPEN_START, OPEN_END)))
    return list(first.values())


def by_question(facts: Iterable[FactRow]) -> dict[str, list[FactRow]]:
    found = dict[str, list[FactRow]]()
    for fact in facts:
        found.setdefault(fact.question, []).append(fact)
    return found


def normalise(text: str) -> str:
    """Lower case, punctuation as spaces, no runs of whitespace; compatible characters made equal (NFKC)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(char if char.isalnum() else " " for char in folded).split())
