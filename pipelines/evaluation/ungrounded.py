"""Whether each sentence of an answer stands in what it cites. Shares no code with what writes the answers.

A sentence is grounded if it is part of a quote it cites, or if a quote it cites has all of its numbers, names and
content words. Sentences and words are taken apart in the plainest way that can be told at a glance, so that a fault
of the pipeline's own splitting or stemming shows here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_CITED = re.compile(r"\s*\[(\d+(?:,\s*\d+)*)\]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“])")
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_ENDING = re.compile(r"(?:ing|ed|es|s|e)$")
_SHORTEST_ROOT = 3
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about after against all also am an and any are as at be because been before being between both but by can
        could did do does doing down during each few for from had has have having he her here hers him his how i if in
        into is it its just me might more most must my no nor not of off on once one only or other our out over own s
        same shall she should so some such t than that the their theirs them then there these they this those through
        to too under until up upon us very was we were what when where which while who whom whose why will with within
        without would you your""",
    )
)


def check_sentences(text: str, quotes: Mapping[int, str]) -> list[bool]:
    """For each sentence of the answer whether a quote it cites carries it; without citation none does."""
    found: list[bool] = []
    for said, cited in _parts(text, list(quotes.values())):
        known = [quotes[n] for n in cited if n in quotes]
        if any(said in quote for quote in known):
            found.append(True)
        else:
            found += [any(_words(one) <= _words(quote) for quote in known) for one in _SENTENCE_END.split(said)]
    return found


def _parts(text: str, quotes: list[str]) -> Iterator[tuple[str, list[int]]]:
    """What is said up to each marker, and the numbers in it. A quote may hold such a marker itself."""
    place = 0
    while rest := text[place:].strip():
        place = text.index(rest, place)
        whole = max((quote for quote in quotes if rest.startswith(quote)), key=len, default="")
        marker = _CITED.search(text, place + len(whole))
        if marker is None:
            yield rest, []
            return
        yield text[place : marker.start()], [int(number) for number in marker[1].split(",")]
        place = marker.end()


def _words(text: str) -> frozenset[str]:
    """Numbers as they are written, all other words but function words by their roots."""
    found = (word.casefold() for word in _WORD.findall(text))
    return frozenset(_root(word) for word in found if word not in _FUNCTION_WORDS)


def _root(word: str) -> str:
    if any(char.isdigit() for char in word):
        return word.replace(",", "")
    shorter = _ENDING.sub("", word)
    return shorter if len(shorter) >= _SHORTEST_ROOT else word
