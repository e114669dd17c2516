"""Words of a text, as matching, evidence and grounding compare them."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_POSSESSIVE = re.compile(r"\s?['’`]\s?s\b", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d)\s?,\s?(?=\d{3}\b)")
_TOKEN = re.compile(r"[^\W_]+")


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


QUESTION_WORDS = _listed("what which who whom whose where when why how")
STOPWORDS = QUESTION_WORDS | _listed(
    "a an the this that these those there here it its he him his she her hers they them their theirs we us our you "
    "your i me my one s t d m ll re ve "
    "of in on at by for from to with as into onto about over under between among through during before after since "
    "until within without against upon per via "
    "and or but nor so if than then because while though although also too either neither both not no nor only just "
    "is am are was were be been being do does did done has have had having can could may might must shall should "
    "will would "
    "any some all each every such other another same more most much many very own up out off down again once "
)


@lru_cache(maxsize=8192)
def tokens(text: str) -> tuple[str, ...]:
    """Words and numbers in order, accents folded, case kept.

    "Baker's" is "Baker", "U - 38" is "U" and "38", "1,190" is "1190".
    """
    folded = "".join(mark for mark in unicodedata.normalize("NFKD", text) if not unicodedata.combining(mark))
    return tuple(_TOKEN.findall(_THOUSANDS.sub("", _POSSESSIVE.sub(" ", folded))))


def words(text: str) -> frozenset[str]:
    """The distinct tokens, lower case."""
    return frozenset(token.lower() for token in tokens(text))


def has_digit(token: str) -> bool:
    return any(character.isdigit() for character in token)


_IRREGULAR = {
    "won": "win", "led": "lead", "held": "hold", "made": "make", "born": "bear", "built": "build", "wrote": "write",
    "written": "write", "began": "begin", "begun": "begin", "became": "become", "took": "take", "taken": "take",
    "gave": "give", "given": "give", "left": "leave", "went": "go", "gone": "go", "said": "say", "found": "find",
    "known": "know", "knew": "know", "children": "child", "men": "man", "women": "woman", "people": "person",
}  # fmt: skip


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A lower-case word without its inflection, roughly: forms of one word meet, different words rarely do."""
    word = _IRREGULAR.get(word, word)
    for suffix, put in (
        ("ies", "y"),
        ("ied", "y"),
        ("ing", ""),
        ("edly", ""),
        ("ed", ""),
        ("ly", ""),
        ("es", ""),
        ("s", ""),
    ):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
            return _undoubled(word[: -len(suffix)] + put)
    return _undoubled(word)


def _undoubled(root: str) -> str:
    """ "stopp" is "stop" and "create" is "creat", so that forms with and without the final letter meet."""
    if len(root) > 3 and root[-1] == root[-2] and root[-1] not in "aeiou":
        return root[:-1]
    return root[:-1] if len(root) > 3 and root[-1] == "e" else root


def content_stems(text: str) -> list[str]:
    """The stems of all words but stopwords, in order, repeats kept."""
    return [stem(token.lower()) for token in tokens(text) if token.lower() not in STOPWORDS]
