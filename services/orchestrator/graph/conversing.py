"""Follow-up questions made to stand alone: what a question leaves to the conversation is put in, by rules.

Rules, and not the model: a rewrite costs no second generation, is the same each time, and touches only what it must: a
pronoun that nothing in the question itself explains, or a question that is but a piece of one ("And in 2016?"). What a
rule is not sure of stays as it is. The answer shows both, as asked and as read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.moment import now
from services.orchestrator.graph.timing import proposed, speaks_of_time

MOST_TOKENS = 1_000
"""How much of a conversation is read, its end; a token is taken for _TOKEN_CHARS characters."""
_TOKEN_CHARS = 4

_PIECE = re.compile(r"^\s*(?:(?:and|but|so|then|ok|okay)\b[,\s]*)*(?P<about>(?:what|how)\s+about\b\s*)?", re.IGNORECASE)
_ASKS = re.compile(
    r"\b(?:who|whom|whose|what|when|where|which|why|how|is|are|was|were|did|does|do|has|have|had|can|could|will)\b",
    re.IGNORECASE,
)
_FUNCTION = (
    "who|whom|whose|what|when|where|which|why|how|is|are|was|were|did|does|do|has|have|had|can|could|will|would|in|on|"
    "at|by|for|of|the|a|an|and|but|so|then|tell|name|list|give|describe|explain|show"
)
_NAME = re.compile(
    r"(?:[^\W\d_a-z][\w'’&.-]*|\d[\w-]*[A-Z]\w*)(?:\s+(?:(?:of|the|de|du|la|von|van|for|and)\s+){0,2}[^\W\d_a-z][\w'’&-]*)*"
)
_LEADING = re.compile(rf"^(?:(?:{_FUNCTION})\s+)+", re.IGNORECASE)
_PERSON = re.compile(r"\b(?P<own>his)\b|\b(?P<her>her)\b(?P<noun>\s+\w)?|\b(?:he|she|him)\b", re.IGNORECASE)
_THING = re.compile(r"\b(?P<own>its|their)\b|\b(?:it|they|them|there)\b", re.IGNORECASE)
_IDLE = re.compile(r"\b(?:is|are|was|were)\s+(?:it|there)\b|\b(?:there|it)\s+(?:is|are|was|were)\b", re.IGNORECASE)
"""Words that point at nothing: "how many are there", "is it true"."""
_WHO_IS = re.compile(r"^\s*(?:who|what)\s+(?:is|are|was|were)\s+(?P<what>the\s+.+?)\s*\??\s*$", re.IGNORECASE)
_DID_IT = re.compile(
    r"^\s*(?:\w+\s+){0,3}?(?:did|does|do|was|were|is|are|has|have|will|can)\s+(?P<what>the\s+.+?)\s+\w+\s*\??\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What was asked before, and what was answered."""

    question: str
    answer: str = ""


def standing_alone(question: str, history: Sequence[Turn]) -> str:
    """The question with what it leaves to the conversation, which runs up to it; unchanged where it leaves nothing."""
    before: Turn | None = None
    for turn in [*_end_of(history), Turn(question)]:
        read = turn.question if before is None else _read(turn.question, before)
        before = Turn(read, turn.answer)
    return before.question if before else question


def _end_of(history: Sequence[Turn]) -> list[Turn]:
    """As many of the last turns as MOST_TOKENS allow."""
    kept: list[Turn] = []
    left = MOST_TOKENS * _TOKEN_CHARS
    for turn in reversed(history):
        left -= len(turn.question) + len(turn.answer)
        if left < 0:
            break
        kept.append(turn)
    return kept[::-1]


def _read(question: str, before: Turn) -> str:
    piece = _PIECE.match(question)
    rest = question[piece.end() :].strip(" ?.!") if piece else question
    if rest and ((piece and piece["about"]) or (piece and piece.end() and not _ASKS.search(rest))):
        return _completed(rest, before.question)
    if rest and not _ASKS.search(rest) and _phrase(rest) == rest:
        return _completed(rest, before.question)
    return _explained(question, before)


def _completed(piece: str, question: str) -> str:
    """The question asked before with the piece in it: in place of its date, of its last name, or at its end."""
    when = _phrase(piece)
    if when == piece:
        earlier = _phrase(question)
        return question.replace(earlier, piece, 1) if earlier else f"{question.rstrip(' ?.!')} {piece}?"
    names = _names(question)
    if names and _NAME.match(piece):
        start, end = names[-1]
        return f"{question[:start]}{piece}{question[end:]}"
    return f"{question.rstrip(' ?.!')}, {piece}?"


def _phrase(text: str) -> str:
    """The words that name a date, empty where none or several do."""
    found = proposed(text, now()) if speaks_of_time(text) else None
    return found.phrase if found else ""


def _explained(question: str, before: Turn) -> str:
    """The first pronoun of a kind replaced by what it stands for, unless a name before it may be meant."""
    for pronoun, meant in ((_PERSON, _person(before)), (_THING, _thing(before))):
        found = next((one for one in pronoun.finditer(question) if not _idle(question, one)), None)
        if found is None or not meant or any(end <= found.start() for _, end in _names(question)):
            continue
        owned = bool(found["own"]) or ("her" in pronoun.groupindex and bool(found["her"] and found["noun"]))
        noun = (found["noun"] or "") if "noun" in pronoun.groupindex else ""
        return f"{question[: found.start()]}{meant}{_possessive(meant) if owned else ''}{noun}{question[found.end() :]}"
    return question


def _idle(question: str, pronoun: re.Match[str]) -> bool:
    return any(one.start() <= pronoun.start() < one.end() for one in _IDLE.finditer(question)) and not pronoun["own"]


def _possessive(name: str) -> str:
    return "'" if name.endswith("s") else "'s"


def _person(before: Turn) -> str:
    """Whom "she" stands for: who was asked for, by the name that the answer gives, else the last name asked about."""
    if re.match(r"\s*who\b", before.question, re.IGNORECASE):
        named = _names(before.answer)
        if named:
            return before.answer[slice(*named[0])]
        if described := _WHO_IS.match(before.question):
            return described["what"]
    return _last_name(before.question)


def _thing(before: Turn) -> str:
    """What "it" stands for: the subject of the question before, else the last name in it, else one of the answer."""
    if subject := _DID_IT.match(before.question):
        return subject["what"]
    return _last_name(before.question) or _last_name(before.answer)


def _last_name(text: str) -> str:
    found = _names(text)
    return text[slice(*found[-1])] if found else ""


def _names(text: str) -> list[tuple[int, int]]:
    """Where names stand; a sentence's opening function words are none."""
    spans = []
    for found in _NAME.finditer(text):
        leading = _LEADING.match(f"{found[0]} ")
        start = found.start() + (leading.end() if leading else 0)
        if start < found.end():
            spans.append((start, found.end() - (1 if found[0].endswith((".", "-")) else 0)))
    return spans
