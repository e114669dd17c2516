"""Sentence by sentence: what the evidence supports is released; the rest is replaced by a quote, or dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from services.common.sentences import sentences
from services.orchestrator.graph.support import Statement, supports

ABSTENTION = "Nothing on record answers this question."
MOST_SENTENCES = 3
MOST_WORDS = 60
"""Of an answer, its markers counted; only its first sentence may be longer."""
WORDS_A_PIECE = 4

_MARKER = re.compile(r"\s*\[\s*\d+(?:\s*[,;]\s*\d+)*\s*\]")
_MARKERS = re.compile(rf"(?:{_MARKER.pattern})+")
_OPEN_MARKER = re.compile(r"\s*\[[^\]]*$")
_NUMBER = re.compile(r"\d+")
_BULLET = re.compile(r"^(?:[-*•]|\d{1,2}[.)])\s+")
_AFTER_SPACE = re.compile(r"(?<=\s)")
_PIECE = re.compile(rf"(?:\s*\S+){{1,{WORDS_A_PIECE}}}")
_ENDED = re.compile(r"[.!?][\"'”’)\]]*$")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A quote under the number it is cited by. Its `title` is for the model to read; it supports nothing."""

    n: int
    quote: str
    title: str = ""

    @property
    def quoted(self) -> str:
        return f"{self.quote} [{self.n}]"

    @property
    def statement(self) -> Statement:
        return Statement.of(self.quote)


class Grounder:
    """Fed text as it is generated, it gives out pieces that may be shown; none of them is ever withdrawn.

    What comes out depends on the text fed, not on how it was cut. Evidence comes best first. Every sentence given out
    is supported by the evidence or a quote of it, and ends with the numbers it rests on: " [1]" or " [1, 2]". Sentences
    that add nothing to the question and to those before are left out, and so are those that would make the answer
    longer than MOST_WORDS. Where the first sentence is not supported, the best quote stands in for it, as soon as a
    word is said that no evidence has; at the end others follow it, of the best `quotes`, as far as they fit.
    """

    def __init__(
        self, evidence: Sequence[Evidence], most: int = MOST_SENTENCES, quotes: int = 1, question: str = ""
    ) -> None:
        self._evidence = {item.n: item for item in evidence}
        self._statements = {item.n: item.statement for item in evidence}
        self._most = most
        self._quotable = list(evidence[:quotes])
        self._all = Statement.of(" ".join(item.quote for item in evidence))
        self._buffer = ""
        self._text = ""
        self._unfinished = ""
        self._shown = 0
        self._words = 0
        self._said = set(Statement.of(question).stems)
        self._used: set[int] = set()
        self._generated = self._quoting = False

    @property
    def text(self) -> str:
        """All that was given out, by an earlier attempt too."""
        return self._text

    @property
    def used(self) -> list[int]:
        """The evidence that what was given out rests on, by number."""
        return sorted(self._used)

    @property
    def grounding(self) -> Literal["generated", "quoted", "abstained"]:
        if self._generated:
            return "generated"
        return "quoted" if self._used else "abstained"

    @property
    def done(self) -> bool:
        """Whether as many sentences were given out as may be; further decoding is in vain."""
        return self._shown >= self._most

    def resume(self, prefix: str) -> None:
        """Before the first `feed`: count what an earlier attempt gave out, a last unfinished sentence too, as given."""
        place = 0
        while unit := self._unit_at(prefix, place):
            self._note(unit)
            place += len(unit)
        self._text, self._unfinished = prefix, prefix[place:]

    def feed(self, delta: str) -> list[str]:
        """Take more generated text; returns the pieces it releases, often none."""
        released: list[str] = []
        for part in _AFTER_SPACE.split(delta):
            self._buffer += part
            if part[-1:].isspace():
                for sentence in self._sentences(final=False):
                    released += self._judge(sentence)
                if not self._shown and self._invents():
                    released += self._quote()
        return released

    def finish(self, truncated: bool = False) -> list[str]:
        """The text is over; `truncated` says it was cut off, so that half a sentence is not taken for a whole one.

        Where nothing was released, the best quotes are, or without evidence the abstention.
        """
        released: list[str] = []
        for sentence in self._sentences(final=True):
            if not truncated or self._buffer.strip() or _ENDED.search(_plain(sentence)):
                released += self._judge(sentence)
        while (self._quoting or not self._shown) and not self.done and (piece := self._quote()):
            released += piece
        if not self._shown:
            released += self._release(ABSTENTION)
        return released + self._finish_begun()

    def abstain(self) -> list[str]:
        """Give out the abstention in place of an answer, unless something was given out before."""
        return [] if self._shown else self._release(ABSTENTION)

    def _sentences(self, final: bool) -> Iterator[str]:
        """Take whole sentences from the buffer. Until the text is over, one is whole once a word of the next came."""
        while spans := sentences(self._buffer):
            start, end = spans[0]
            markers = _MARKERS.match(self._buffer, end)
            end = markers.end() if markers else end
            if not final and not self._buffer[end:].strip():
                return
            sentence, self._buffer = self._buffer[start:end], self._buffer[end:]
            yield sentence

    def _judge(self, sentence: str) -> list[str]:
        text = _plain(sentence)
        claim = Statement.of(text)
        if self.done or not claim.stems:
            return []
        numbers = self._supporting(claim, _cited(sentence))
        if not numbers:
            return [] if self._shown else self._quote()
        told = f"{text} [{', '.join(map(str, numbers))}]"
        if set(claim.stems) <= self._said or not self._fits(told):
            return []
        return self._release(told)

    def _invents(self) -> bool:
        """Whether the sentence that has begun says a word that no evidence has: it cannot be supported any more."""
        begun = Statement.of(_plain(_OPEN_MARKER.sub("", self._buffer)))
        return not (begun.marks <= self._all.words and set(begun.stems) <= set(self._all.stems))

    def _supporting(self, claim: Statement, cited: Sequence[int]) -> list[int]:
        """The evidence cited, if it supports the claim; else the first that does so alone; else none."""
        known = sorted({number for number in cited if number in self._evidence})
        if known and supports(self._together(known), claim):
            return known
        return next(([number] for number, said in self._statements.items() if supports(said, claim)), [])

    def _together(self, numbers: Sequence[int]) -> Statement:
        return Statement.of(" ".join(self._evidence[n].quote for n in numbers))

    def _quote(self) -> list[str]:
        """The best quote that is not yet used and fits."""
        left = (item for item in self._quotable if item.n not in self._used and self._fits(item.quoted))
        best = next(left, None)
        return self._release(best.quoted) if best else []

    def _fits(self, sentence: str) -> bool:
        return not self._shown or self._words + len(sentence.split()) <= MOST_WORDS

    def _release(self, sentence: str) -> list[str]:
        """Give out a sentence; of one that an earlier attempt began, only what is missing."""
        unit = self._lead + sentence
        if not unit.startswith(self._unfinished):
            closing = self._finish_begun()
            return closing if self.done else closing + self._release(sentence)
        return self._give(unit)

    def _finish_begun(self) -> list[str]:
        """End what an earlier attempt began and this one does not say: a quote with its own words, else "…"."""
        if not self._unfinished:
            return []
        whole = [self._lead + item.quoted for item in self._evidence.values()]
        begun = [unit for unit in whole if unit.startswith(self._unfinished)]
        return self._give(begun[0] if begun else f"{self._unfinished}…")

    def _give(self, unit: str) -> list[str]:
        missing = unit[len(self._unfinished) :]
        self._unfinished = ""
        self._note(unit)
        self._text += missing
        return _PIECE.findall(missing)

    def _note(self, unit: str) -> None:
        """Count a sentence as given out."""
        quoted = next((item for item in self._evidence.values() if item.quoted == unit.strip()), None)
        self._quoting |= quoted is not None and not self._shown
        self._shown += 1
        self._words += len(unit.split())
        if quoted is not None:
            self._used.add(quoted.n)
            self._said |= set(self._statements[quoted.n].stems)
        elif unit.strip() != ABSTENTION:
            self._generated = True
            self._used |= set(_cited(unit)) & set(self._evidence)
            self._said |= set(Statement.of(_plain(unit)).stems)

    def _unit_at(self, text: str, place: int) -> str:
        """The whole sentence given out that stands at the place; empty where it is unfinished, or none is left."""
        known = [self._lead + item.quoted for item in self._evidence.values()] + [ABSTENTION]
        for unit in known:
            if text.startswith(unit, place):
                return unit
        if any(unit.startswith(text[place:]) for unit in known):
            return ""
        marker = _MARKER.search(text, place)
        return text[place : marker.end()] if marker else ""

    @property
    def _lead(self) -> str:
        return " " if self._shown else ""


def _plain(sentence: str) -> str:
    """The sentence without list bullet and markers, white space evened out."""
    return _BULLET.sub("", " ".join(_MARKER.sub("", sentence).split()))


def _cited(sentence: str) -> list[int]:
    return [int(number) for marker in _MARKER.findall(sentence) for number in _NUMBER.findall(marker)]
