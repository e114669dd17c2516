"""Sentences of a text, with exact offsets.

Made for plain prose, Markdown and pre-tokenized text ("Newton D . Baker , who ..."). Where an abbreviation or an
initial leaves it open whether a sentence ends, it goes on: too long a quote is whole, too short a one is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_END = re.compile(r"[.!?…]+[\"'”’)\]»]*(?=\s)|[。！？]+[」』”’]*")
_OWN_BLOCK = re.compile(r"[ \t]*(?:#{1,6}[ \t]|[-*+•][ \t]|\d{1,3}[.)][ \t]|\|)")
_HEADING = re.compile(r"[ \t]{0,3}#{1,6}[ \t]")
_LAST_WORD = re.compile(r"[\w.&'’-]*[\w.]\s?$")
_FIRST_WORD = re.compile(r"[\"'“‘(\[«`]*\s?([\w'’]+)")
_ACRONYM = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_LONGEST_WORD = 40


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Always followed by more of the same sentence.
_LEADS_ON = _words(
    "mr mrs ms messrs mme mlle dr prof rev hon gen col maj capt lt sgt cpl pvt adm cmdr sen rep gov "
    "e.g i.e eg ie cf viz vs approx ca"
)
# May end a sentence, but seldom does before a word that does not commonly start one.
_SELDOM_ENDS = _words("jr sr st mt ft co corp inc ltd bros dept univ ave blvd rd al etc ph.d kgl coll est")
# Abbreviations only where a number follows.
_BEFORE_NUMBER = _words(
    "no nos vol vols pp p pg fig figs eq eqs sec ch art para tab ed op c b d v "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
_STARTERS = _words(
    "the he she it they we you this that these those there here his her its their our my in on at by for from with "
    "to of as an and but or so yet if when while where after before during since until although though because "
    "however moreover furthermore therefore thus then also both each all some many most several few no not one two "
    "three four five another other such what who which how why according despite following under over between among "
    "through upon later today once only even just like unlike instead"
)


def sentences(text: str) -> list[tuple[int, int]]:
    """The (start, end) of every sentence, in order; together they cover all but white space.

    No sentence crosses a blank line, and headings, list items and table rows start their own.
    """
    return [span for start, end in _blocks(text) for span in _split(text, start, end)]


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Stretches of running text: paragraphs, headings, list items, table rows."""
    start = position = 0
    for line in text.splitlines(keepends=True):
        alone = _HEADING.match(line) is not None
        if alone or not line.strip() or _OWN_BLOCK.match(line):
            yield start, position
            start = position
        position += len(line)
        if alone:
            yield start, position
            start = position
    yield start, position


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for match in _END.finditer(text, start, end):
        if _ends_here(text, begin, match, end):
            yield from _trimmed(text, begin, match.end())
            begin = match.end()
    yield from _trimmed(text, begin, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    body = text[start:end]
    if stripped := body.strip():
        start += len(body) - len(body.lstrip())
        yield start, start + len(stripped)


def _ends_here(text: str, begin: int, match: re.Match[str], end: int) -> bool:
    if match.group()[0] in "。！？":
        return True
    after = text[match.end() : min(end, match.end() + _LONGEST_WORD)].lstrip()
    if not after:
        return True
    if after[0].islower() or after[0] in ",;:.!?…)]}":
        return False
    return match.group() != "." or _period_ends(text[begin : match.start()], after)


def _period_ends(before: str, after: str) -> bool:
    """Whether a lone period between these two is the end of a sentence."""
    found = _LAST_WORD.search(before[-_LONGEST_WORD:])
    word = found.group().strip() if found else ""
    if not word or word.endswith("."):
        return True
    if before.strip().isdecimal() and len(word) <= 3:
        return False  # the number of a list item
    low = word.lower()
    if low in _LEADS_ON:
        return False
    if low in _BEFORE_NUMBER and after[0].isdecimal():
        return False
    if low in _SELDOM_ENDS or _ACRONYM.fullmatch(word) or (len(word) == 1 and word.isupper()):
        next_word = _FIRST_WORD.match(after)
        return next_word is not None and next_word.group(1).lower() in _STARTERS
    return True
