"""Whether evidence says what a sentence says, word by word.

Every number, name and content word of the sentence must stand in the evidence, in much the same order, and neither may
deny what the other does not. That finds what was made up; it is no proof of entailment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.orchestrator.graph.words import STOPWORDS, has_digit, stem, tokens

_DENIAL = re.compile(r"\b(?:not|no|never|neither|nor|none|nobody|nothing|without|cannot)\b|n['’]t\b", re.IGNORECASE)
_IN_ORDER = 0.6
"""The share of the sentence's content words that must follow one another as in the evidence."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A text as it is compared: its content stems in order, its names and numbers, all its words, whether it denies."""

    stems: tuple[str, ...]
    marks: frozenset[str]
    words: frozenset[str]
    denies: bool

    @classmethod
    def of(cls, text: str) -> Statement:
        spoken = tokens(text)
        content = [token for token in spoken if token.lower() not in STOPWORDS]
        # A first word has its capital from its place; as a content word it is compared all the same.
        names = [token for token in spoken[1:] if token[0].isupper()] + [token for token in spoken if has_digit(token)]
        return cls(
            tuple(stem(token.lower()) for token in content),
            frozenset(name.lower() for name in names) - STOPWORDS,
            frozenset(token.lower() for token in spoken),
            bool(_DENIAL.search(text)),
        )


def supports(evidence: Statement, claim: Statement) -> bool:
    """Whether the evidence has all that the claim has. A claim without content words is supported by nothing."""
    return (
        bool(claim.stems)
        and claim.marks <= evidence.words
        and set(claim.stems) <= set(evidence.stems)
        and claim.denies == evidence.denies
        and _in_order(claim.stems, evidence.stems) >= _IN_ORDER * len(claim.stems)
    )


def _in_order(claim: tuple[str, ...], evidence: tuple[str, ...]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(evidence) + 1)
    for word in claim:
        above = row
        row = [0]
        for place, other in enumerate(evidence):
            row.append(above[place] + 1 if word == other else max(row[place], above[place + 1]))
    return row[-1]
