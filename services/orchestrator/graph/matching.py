"""Whether an asked question is a canonical one in other words.

A cosine alone cannot tell: a question with another name in it stays close to the one it was made from. So names and
numbers must agree as well, in both directions; better no fact than another question's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.orchestrator.graph.words import STOPWORDS, has_digit, stem, tokens, words

THRESHOLD = 0.8
MARGIN = 0.02
OTHER_WORDS_THRESHOLD = 0.9
"""What the cosine must reach where the two ask in different words about the same names."""

_REQUEST = frozenset({"tell", "name", "give", "list", "say", "please"})
_FUNCTION_WORDS = STOPWORDS | _REQUEST
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_WHEN = re.compile(
    r"[\s,(]+(?:back\s+in|in|as\s+of|as\s+at|on|during|around|at|by)\s+(?:the\s+)?(?:year\s+|early\s+|mid[\s-]+|late\s+)?"
    rf"(?:{_DAY}\s+(?:of\s+)?)?(?:{_MONTH}\s+)?(?:{_DAY}\s*,?\s+)?\d{{4}}(?:-\d\d(?:-\d\d)?)?[\s).?!]*$",
    re.IGNORECASE,
)

_YEAR = re.compile(r"\d{4}")

_ASKS_FOR = {
    "person": re.compile(r"\b(?:who|whom|(?:what|which)\s+person)\b", re.IGNORECASE),
    "place": re.compile(
        r"\b(?:where|(?:what|which)\s+(?:city|country|county|town|region|state|place))\b", re.IGNORECASE
    ),
    "time": re.compile(r"\b(?:when|(?:what|which)\s+(?:year|date|day|month|century))\b", re.IGNORECASE),
    "count": re.compile(r"\bhow\s+(?:many|much|long|often)\b", re.IGNORECASE),
}


def without_time(asked: str) -> str:
    """The question without a closing "in 2015" or "as of March 2019"; the moment says that, not the question."""
    return _WHEN.sub("?", asked)


def named_year(asked: str) -> int | None:
    """The year that a closing "in 2015" or "as of March 2019" names."""
    found = _WHEN.search(asked)
    return int(_YEAR.findall(found[0])[-1]) if found else None


def agree(asked: str, canonical: str) -> bool:
    """Whether both questions ask for the same kind of thing, about the same names and numbers.

    A question in lower case throughout shows no names: then all its words but function words must be the canonical's.
    """
    return any(_agree(variant, canonical) for variant in (asked, without_time(asked)))


def _agree(asked: str, canonical: str) -> bool:
    if not _kinds(asked) & _kinds(canonical):
        return False
    marks = _content(asked) if asked.islower() else _marks(asked)
    return _marks(canonical) <= words(asked) and marks <= words(canonical)


def _kinds(text: str) -> frozenset[str]:
    """What may answer the question; anything, where it does not say."""
    return frozenset(kind for kind, asks in _ASKS_FOR.items() if asks.search(text)) or frozenset(_ASKS_FOR)


def _content(text: str) -> frozenset[str]:
    return words(text) - _FUNCTION_WORDS


def _marks(text: str) -> frozenset[str]:
    """The names and numbers, lower case. A sentence's first word counts, unless it is a function word."""
    return (
        frozenset(token.lower() for token in tokens(text) if token[0].isupper() or has_digit(token)) - _FUNCTION_WORDS
    )


def choose(
    asked: str, candidates: Sequence[tuple[str, str, float]], threshold: float = THRESHOLD, margin: float = MARGIN
) -> str | None:
    """The key of the canonical question that is asked, None if it is none of them or it cannot be told which.

    `candidates` are (key, canonical question, cosine). The same words match whatever the cosine; otherwise the nearest
    of those that agree must reach the threshold, and lead by the margin any that asks with other words.
    """
    same = {_spoken(asked), _spoken(without_time(asked))}
    exact = next((key for key, canonical, _ in candidates if _spoken(canonical) in same), None)
    return exact or _nearest(asked, candidates, threshold, margin)


def _nearest(asked: str, candidates: Sequence[tuple[str, str, float]], threshold: float, margin: float) -> str | None:
    near = [entry for entry in candidates if entry[2] >= _needed(asked, entry[1], threshold) and agree(asked, entry[1])]
    if not near:
        return None
    key, best, cosine = max(near, key=lambda entry: entry[2])
    rivals = [text for _, text, value in near if value > cosine - margin and _content(text) != _content(best)]
    return None if rivals else key


def _needed(asked: str, canonical: str, threshold: float) -> float:
    """The cosine two questions with the same names need: more where what they ask about the names sounds different."""
    wanted, known = _relation(asked, canonical), _relation(canonical, canonical)
    if not wanted and not known:
        return threshold
    shared = len(wanted & known) / max(1, min(len(wanted), len(known)))
    return threshold if shared >= 0.5 else max(threshold, OTHER_WORDS_THRESHOLD)


def _relation(text: str, canonical: str) -> frozenset[str]:
    """The stems of what is neither a name nor a number of the canonical question."""
    return frozenset(stem(word) for word in _content(without_time(text)) - _marks(canonical))


def _spoken(text: str) -> tuple[str, ...]:
    return tokens(text.lower())
