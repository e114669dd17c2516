"""Whether an asked question is a canonical one in other words.

A cosine alone cannot tell: a question with another name in it stays close to the one it was made from. So names and
numbers must agree as well, in both directions; better no fact than another question's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.orchestrator.graph.words import STOPWORDS, has_digit, stem, tokens, words

_REQUEST = frozenset({"tell", "name", "give", "list", "say", "please"})
_FUNCTION_WORDS = STOPWORDS | _REQUEST
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_WHEN = (
    r"(?:back\s+in|in|as\s+of|as\s+at|on|during|around|at|by)\s+(?:the\s+)?(?:year\s+|early\s+|mid[\s-]+|late\s+)?"
    rf"(?:{_DAY}\s+(?:of\s+)?)?(?:{_MONTH}\s+)?(?:{_DAY}\s*,?\s+)?\d{{4}}(?:-\d\d(?:-\d\d)?)?"
)
_CLOSING = re.compile(rf"[\s,(]+{_WHEN}[\s).?!]*$", re.IGNORECASE)
_OPENING = re.compile(rf"^\s*{_WHEN}\s*,?\s+(?=(?:who|whom|what|which|where|when|how)\b)", re.IGNORECASE)

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
    """The question without "in 2015" or "as of March 2019" at its end or start; the moment says that, not it."""
    return _OPENING.sub("", _CLOSING.sub("?", asked))


def named_year(asked: str) -> int | None:
    """The year that "in 2015" or "as of March 2019" names at the end or at the start."""
    found = _CLOSING.search(asked) or _OPENING.search(asked)
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A phrasing of the canonical question `key`, near the asked one.

    `alike`: the cosine of what the two ask about the names, if it is known.

    Vectors know names best: two questions about one long name are near each other whatever they ask about it.
    """

    key: str
    question: str
    cosine: float
    alike: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """`cosine` and `alike`: what they must reach; `margin`: by how much a match must lead one that asks otherwise.

    `bare`: what the cosine must reach where one of the two has no words besides names ("Who was the CEO of Siemens?").
    Chosen on data by `python -m benchmarks.matching`; the table is in ADR-0009.
    """

    cosine: float = 0.8
    alike: float = 0.7
    bare: float = 0.9
    margin: float = 0.02


LIMITS = Limits()


def choose(asked: str, candidates: Sequence[Candidate], limits: Limits = LIMITS) -> Candidate | None:
    """The phrasing that is asked, None if it is none of them or it cannot be told which question is.

    The same words match whatever the cosine; otherwise the nearest of those that agree, if it leads by the margin any
    that asks with other words.
    """
    same = {_spoken(asked), _spoken(without_time(asked))}
    exact = next((one for one in candidates if _spoken(one.question) in same), None)
    return exact or _nearest(asked, candidates, limits)


def doubtful(asked: str, candidates: Sequence[Candidate], limits: Limits = LIMITS) -> list[Candidate]:
    """The candidates about the same names that ask with other words: what they ask has to be compared without names."""
    near = [one for one in candidates if _near(asked, one, limits)]
    return [one for one in near if not _bare(asked, one.question) and not _same_words(asked, one.question)]


def _nearest(asked: str, candidates: Sequence[Candidate], limits: Limits) -> Candidate | None:
    near = [one for one in candidates if _near(asked, one, limits) and _asks_the_same(asked, one, limits)]
    if not near:
        return None
    best = max(near, key=lambda one: one.cosine)
    others = [one for one in near if one.key != best.key and one.cosine > best.cosine - limits.margin]
    return best if all(_content(one.question) == _content(best.question) for one in others) else None


def _near(asked: str, candidate: Candidate, limits: Limits) -> bool:
    return candidate.cosine >= limits.cosine and agree(asked, candidate.question)


def _asks_the_same(asked: str, candidate: Candidate, limits: Limits) -> bool:
    if _bare(asked, candidate.question):
        return candidate.cosine >= limits.bare
    return _same_words(asked, candidate.question) or (candidate.alike or 0.0) >= limits.alike


def _bare(asked: str, canonical: str) -> bool:
    return not _relation(asked, canonical) or not _relation(canonical, canonical)


def _same_words(asked: str, canonical: str) -> bool:
    """Whether most of the words that either question has besides names and numbers are the other's too."""
    wanted, known = _relation(asked, canonical), _relation(canonical, canonical)
    return len(wanted & known) > min(len(wanted), len(known)) / 2


def _relation(text: str, canonical: str) -> frozenset[str]:
    """The stems of what is neither a name nor a number of the canonical question."""
    return frozenset(stem(word) for word in _content(without_time(text)) - _marks(canonical))


def without_names(text: str, canonical: str) -> str:
    """The question without time, and without the names and numbers of the canonical one."""
    marks = _marks(canonical)
    return " ".join(token for token in tokens(without_time(text)) if token.lower() not in marks)


def _spoken(text: str) -> tuple[str, ...]:
    return tokens(text.lower())
