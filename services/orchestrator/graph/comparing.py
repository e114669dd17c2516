"""What changed between answers to one question at several moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from services.catalog.answers import references

Record = Mapping[str, Any]
"""An answer as it is recorded."""


def used(answer: Record) -> list[Mapping[str, Any]]:
    """The citations that the answer's text refers to, in its order; all of a fact's, none where it abstained."""
    if answer["grounding"] == "abstained":
        return []
    by_number = {citation["n"]: citation for citation in answer["citations"]}
    found = [by_number[number] for number in references(answer["answer"]) if number in by_number]
    return found or [citation for citation in answer["citations"] if citation["kind"] == "fact"]


def same(one: Record, other: Record) -> bool:
    """Whether two answers say the same: by their words, or because they rest on the same quotes."""
    quotes = [sorted(citation["quote"] for citation in used(answer)) for answer in (one, other)]
    return one["answer"] == other["answer"] or (quotes[0] == quotes[1] != [])


def changes(answers: Sequence[Record]) -> list[dict[str, Any]]:
    """For each two neighbours: whether the answer changed, and both answers with what they cite."""
    return [
        {"changed": not same(before, after), "before": _told(before), "after": _told(after)}
        for before, after in pairwise(answers)
    ]


def _told(answer: Record) -> dict[str, Any]:
    kept = ("id", "moment", "grounding", "answer")
    return {**{name: answer[name] for name in kept}, "citations": used(answer)}
