"""Questions in other words, and about somebody else, made by rules: what the matching of questions is measured with.

It shares no code with the matching it measures. The same seed makes the same questions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

_WORD = re.compile(r"\w(?:[\w.&/'’-]*\w)?(?:\.(?= [A-Z]))?")
_LETTERS = re.compile(r"[^\W_]+")
_OPENING = re.compile(
    "a|an|and|are|at|by|did|do|does|for|from|had|has|have|how|in|is|of|on|the|to|under|was|were|what|when|where|which|"
    "who|whom|whose|why"
)
"""Words that open a sentence without being part of a name."""
_JOINING = re.compile(r" (?:(?:of|for|and|de|von|y)(?: the| la)? )?")
"""What may stand between two words of one name."""
_PREFIX = re.compile(
    r"(?:The |(?:Mayor|President|Chief|CEO|Emir|King|Queen|Head|Director|Chairman|Governor|(?:Prime )?Minister)"
    r" of (?:the )?)+"
)
_SHORTEST = 3
"""A name has no fewer characters; a single capital stands for anything."""
_ARTICLE = re.compile(r"\b(?:the|an?)\s+", re.IGNORECASE)
_CONTRACTED = {"is": "'s", "was": "'s", "has": "'s", "are": "'re", "were": "'re", "did": "'d", "had": "'d"}
_AUXILIARY = re.compile(rf"\b(who|what|where|when|how) ({'|'.join(_CONTRACTED)})\b", re.IGNORECASE)
_ASKING = r"(?:who|whom|what|which|where|when|how)\b"
_KIND = re.compile(r"\b(who|whom|(?:what|which) person|where|when|how|what|which)\b", re.IGNORECASE)

Rule = Callable[[str, str | None, random.Random], str | None]
"""(question, its entity, dice) → the question in other words, None where the rule does not apply."""


def names(question: str) -> list[str]:
    """Runs of capitalised words, "of" and its like between them, without roles and without what opens any sentence."""
    runs: list[tuple[int, int]] = []
    for word in _WORD.finditer(question):
        numbered = word.group()[0].isdigit() and runs and question[runs[-1][1] : word.start()] == " "
        if not numbered and not _capitalised(word.group(), opens=not question[: word.start()].strip(" \"'")):
            continue
        end = word.start() + len(re.sub(r"['’]s?$", "", word.group()))
        if runs and _JOINING.fullmatch(question[runs[-1][1] : word.start()]):
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((word.start(), end))
    found = [_PREFIX.sub("", question[start:end]) for start, end in runs]
    return [name for name in found if len(name) >= _SHORTEST]


def _capitalised(word: str, opens: bool) -> bool:
    return word[0].isupper() and not (opens and _OPENING.fullmatch(word.casefold()))


def entity(question: str, page: str = "") -> str | None:
    """Who or what the question is about: the name that shares most with the title of its page, else the longest."""
    about = set(_LETTERS.findall(re.sub(r"\(.*?\)", "", page).casefold()))

    def shared(name: str) -> int:
        return sum(len(word) for word in _LETTERS.findall(name.casefold()) if word in about)

    return max(names(question), key=lambda name: (shared(name), len(name)), default=None)


def kind(question: str) -> str:
    """What is asked for: the first question word, "who" also for "what person"."""
    found = _KIND.search(question)
    word = found[1].casefold() if found else ""
    return "who" if word == "whom" or word.endswith("person") else "what" if word == "which" else word


def swaps(entities: Mapping[str, str | None], count: int, rng: random.Random) -> dict[str, list[str]]:
    """By question, up to `count` questions about somebody else: its entity replaced by another question's.

    `entities` holds the entity of each question. Only questions that ask for the same kind of thing lend theirs, and
    no swap gives one of the questions themselves.
    """
    found = {}
    for question, own in entities.items():
        if own is None:
            continue
        alike = {other for text, other in entities.items() if other and kind(text) == kind(question)} - {own}
        swapped = [question.replace(own, other) for other in sorted(alike)]
        lent = [text for text in swapped if text not in entities]
        found[question] = rng.sample(lent, min(count, len(lent)))
    return found


def without_articles(question: str, about: str | None, rng: random.Random) -> str | None:
    """ "Who was the Emir of the Emirate?" is "Who was Emir of Emirate?"."""
    bare = _ARTICLE.sub("", question)
    return bare[0].upper() + bare[1:] if bare != question else None


def in_other_case(question: str, about: str | None, rng: random.Random) -> str | None:
    """Lower case, upper case, or every word capitalised."""
    return rng.choice([question.lower(), question.upper(), question.title()])


def contracted(question: str, about: str | None, rng: random.Random) -> str | None:
    """ "Who was" is "Who's", "Where did" is "Where'd"."""
    short = _AUXILIARY.sub(lambda found: found[1] + _CONTRACTED[found[2].lower()], question)
    return short if short != question else None


def reordered(question: str, about: str | None, rng: random.Random) -> str | None:
    """The question word moved to the end, or to the front from there; else what it is about moved to the front."""
    stem = question.rstrip(" ?")
    moved = _to_the_end(stem, about) or _to_the_front(stem) or _topic_first(stem, about)
    return f"{moved[0].upper()}{moved[1:]}?" if moved else None


def _to_the_end(stem: str, about: str | None) -> str | None:
    """ "What city did Alfred Drury work in" is "Alfred Drury did work in what city"."""
    found = re.match(
        rf"((?:(?:at|in|of|by|to) )?{_ASKING}(?: [a-z]+)*?) (was|were|is|are|did) (.+)", stem, re.IGNORECASE
    )
    if found is None:
        return None
    asked, auxiliary, rest = found[1][0].lower() + found[1][1:], found[2], found[3]
    until = rest.find(about) + len(about) if about and about in rest else len(rest)
    if rest[until:].startswith(("'", "’")) or (auxiliary != "did" and rest[:1].islower() and rest[:4] != "the "):
        until = len(rest)
    return " ".join(part for part in (rest[:until], auxiliary, rest[until:].strip(" ,."), asked) if part)


def _to_the_front(stem: str) -> str | None:
    """ "Stefano Pioli led what football team" is "What football team, Stefano Pioli led"."""
    found = re.match(rf"(.+?) ((?:(?:in|of|by|onto|to) )?{_ASKING}.*)", stem)
    return None if found is None else f"{found[2]}, {_ARTICLE.sub(_lowered, found[1], count=1)}"


def _lowered(found: re.Match[str]) -> str:
    return found[0].lower()


def _topic_first(stem: str, about: str | None) -> str | None:
    """ "Who served as the CEO of Siemens" is "Siemens, who served as the CEO of"."""
    if about is None or f" {about}" not in stem:
        return None
    begin = stem.index(about)
    begin -= 4 if stem[:begin].endswith(" the ") else 0
    return f"{stem[begin:]}, {stem[0].lower()}{stem[1:begin].rstrip()}"


RULES: Mapping[str, Rule] = {
    "articles": without_articles,
    "case": in_other_case,
    "contractions": contracted,
    "order": reordered,
}


def paraphrases(question: str, about: str | None, rng: random.Random) -> dict[str, str]:
    """The question by each rule that applies to it, and by all of them, one after the other, as "all"."""
    made = {name: text for name, rule in RULES.items() if (text := rule(question, about, rng))}
    combined = question
    for name in ("order", "contractions", "articles", "case"):
        combined = RULES[name](combined, about, rng) or combined
    return {**made, "all": combined}
