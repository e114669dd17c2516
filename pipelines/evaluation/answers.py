"""Measuring answers to questions with known answers: pure functions over answers as the gateway gives them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from pipelines.evaluation.figures import Json, share
from pipelines.evaluation.ungrounded import check_sentences

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MARKERS = re.compile(r"\s*\[\d+(?:,\s*\d+)*\]")
_P90 = 0.9


@dataclass(frozen=True, slots=True)
class Graded:
    """What one answer did; `sentences` and `ungrounded` count its sentences, `words` what a reader reads."""

    contains: bool
    exact_match: bool
    f1: float
    sentences: int
    ungrounded: int
    words: int
    grounding: str
    ms: float


def grade(golds: Sequence[str], answer: Json, ms: float) -> Graded:
    """Judge an answer against the spans that answer its question; an abstention is right about none of them.

    `contains`: a span stands in it, whole words. `exact_match` and `f1` are SQuAD's, which reward an answer of the
    span alone: one in whole sentences scores low. All three compare without case, punctuation and a, an, the, and
    without citation markers; words are counted with the markers.
    """
    text, said = answer["answer"], normalise(_MARKERS.sub("", answer["answer"]))
    wanted = [normalise(gold) for gold in golds]
    abstained = answer["grounding"] == "abstained"
    checked = [] if abstained else check_sentences(text, {one["n"]: one["quote"] for one in answer["citations"]})
    return Graded(
        contains=not abstained and any(f" {gold} " in f" {said} " for gold in wanted),
        exact_match=not abstained and said in wanted,
        f1=0.0 if abstained else max(f1(said, gold) for gold in wanted),
        sentences=len(checked),
        ungrounded=checked.count(False),
        words=len(text.split()),
        grounding=answer["grounding"],
        ms=ms,
    )


def normalise(text: str) -> str:
    """SQuAD's: lower case, punctuation and a, an, the left out; but punctuation divides words here."""
    folded = "".join(char if char.isalnum() else " " for char in text.casefold())
    return " ".join(_ARTICLES.sub(" ", folded).split())


def f1(said: str, gold: str) -> float:
    """The harmonic mean of precision and recall of the words, both texts normalised."""
    one, other = said.split(), gold.split()
    same = sum((Counter(one) & Counter(other)).values())
    return 2 * same / (len(one) + len(other)) if same else 0.0


def percentile(values: Iterable[float], part: float) -> float:
    """The smallest of the values that at least so large a part of them does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else 0.0


def answer_figures(graded: Sequence[Graded], unanswerable: Sequence[Json]) -> dict[str, float | int]:
    """Shares of the answers, `ungrounded` of their sentences, and how many of the unanswerable were not answered.

    words_p50 and words_p90 are of the answers that are no abstentions.
    """
    told = [one for one in graded if one.grounding != "abstained"]
    return {
        "contains": _mean(one.contains for one in graded),
        "exact_match": _mean(one.exact_match for one in graded),
        "f1": _mean(one.f1 for one in graded),
        "ungrounded": round(share(sum(one.ungrounded for one in told), sum(one.sentences for one in told)), 4),
        "abstained": _mean(one.grounding == "abstained" for one in graded),
        "abstained_unanswerable": _mean(one["grounding"] == "abstained" for one in unanswerable),
        "generated": _mean(one.grounding == "generated" for one in graded),
        "words_p50": percentile((one.words for one in told), 0.5),
        "words_p90": percentile((one.words for one in told), _P90),
        "answer_ms_p50": round(median(one.ms for one in graded), 1) if graded else 0.0,
        "asked": len(graded),
        "asked_unanswerable": len(unanswerable),
        "sentences": sum(one.sentences for one in told),
    }


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return round(fmean(listed), 4) if listed else 0.0
