"""The sentences that answer a question, each an exact quote of its version's text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.common.sentences import sentences
from services.orchestrator.graph.words import content_stems, tokens

Vectors = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]

MOST_PASSAGES = 8
"""Evidence is chosen from so many; the right one is among them in 99.8 % of xquad's questions."""
SHORTLIST = 16
"""Sentences that are compared by meaning, the others are left out by their words. Of twelve passages all are three
times as many words to encode, and no better: the span that answers is in 0.869 of xquad's answers, so in 0.874."""
MOST_SENTENCES = 3
WORD_BUDGET = 90

# Chosen on xquad (1,190 questions, 240 paragraphs, the best eight of them for each).
_OVERLAP_WEIGHT = 0.9
_PASSAGE_WEIGHT = 0.6
_SATURATION = 1.2
"""BM25's k1; its b is 0: a long sentence is no worse an answer."""
_FEWEST_WORDS = 3
_NEARLY_THE_SAME = 0.8

_LEAD = 3.5
"""How far behind the best, in its score, a sentence may be to be quoted beside it. Chosen on one half of xquad's
articles: on the other half the span that answers is in 0.901 of the answers of at most 60 words; without a limit in
0.905, but then half of them have more than 50 words, not 41. With a limit of 2 it is in 0.891."""

ANSWERABLE = 0.85
"""What cosine and coverage must sum to. On xquad 2 % of the questions fall below, and 94 % of those whose article is
not in the corpus (half of the articles, asked about the others); so do 99 % of SciFact's claims. Of questions whose
paragraph alone is taken out 63 % do: a higher bound would catch more of them, but those who ask without the text
before them share fewer words with it than xquad's annotators."""
ANSWERABLE_WITHOUT_VECTORS = 0.5
"""What coverage alone must reach."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as retrieved: where `text` begins in the version's text, and a score, larger for better."""

    passage_id: str
    doc_id: str
    title: str
    text: str
    start: int
    score: float


@dataclass(frozen=True, slots=True)
class Sentence:
    """A quote: exactly the version's text at [start, end)."""

    passage_id: str
    doc_id: str
    title: str
    quote: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sentence and how well it answers; the scores of one question compare, those of two do not."""

    sentence: Sentence
    score: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The evidence, best first; whether it is likely to hold the answer at all; how many, from the first, to quote."""

    chosen: tuple[Chosen, ...]
    answerable: bool
    quotes: int = 0


def candidates(passages: Iterable[Passage]) -> list[Sentence]:
    """Every sentence of the passages in their order, one that two of them share once, headings left out."""
    found: dict[tuple[str, int, int], Sentence] = {}
    for passage in passages:
        for start, end in sentences(passage.text):
            quote = passage.text[start:end]
            if quote.startswith("#") or len(tokens(quote)) < _FEWEST_WORDS:
                continue
            low, high = passage.start + start, passage.start + end
            sentence = Sentence(passage.passage_id, passage.doc_id, passage.title, quote, low, high)
            found.setdefault((passage.doc_id, low, high), sentence)
    return list(found.values())


def shortlist(
    question: str, found: Sequence[Sentence], passages: Sequence[Passage], most: int = SHORTLIST
) -> list[Sentence]:
    """The `most` candidates that are best without vectors, in the order they came in."""
    order = np.argsort(-score(question, found, passages), kind="stable")
    return [found[place] for place in sorted(order[:most])]


def score(
    question: str,
    found: Sequence[Sentence],
    passages: Sequence[Passage],
    question_vector: Vectors | None = None,
    sentence_vectors: Vectors | None = None,
) -> Scores:
    """How well each sentence answers, shape (len(found),).

    The sum of three z-scores over the candidates: cosine, word overlap, and a share of the passage's own score. Unit
    vectors, shapes (d,) and (len(found), d); without them the cosine is left out.
    """
    if not found:
        return np.zeros(0)
    scores = _OVERLAP_WEIGHT * _standard(_overlap(question, found)) + _PASSAGE_WEIGHT * _passage_share(found, passages)
    if question_vector is not None and sentence_vectors is not None:
        scores += _standard(np.asarray(sentence_vectors @ question_vector, np.float64))
    return scores


def quotable(scores: Sequence[float]) -> int:
    """How many of the best sentences may be quoted, by their scores, best first: those close to the first."""
    return sum(scores[0] - score <= _LEAD for score in scores)


def select(
    question: str,
    found: Sequence[Sentence],
    passages: Sequence[Passage],
    scores: Scores,
    cosines: Scores | Vectors | None = None,
    most: int = MOST_SENTENCES,
    budget: int = WORD_BUDGET,
) -> Selection:
    """The best one to `most` sentences, no two nearly the same, in a budget of words that the best alone may exceed.

    `cosines`, shape (len(found),), are those of the sentences to the question; without them coverage alone says
    whether the question is answerable.
    """
    order = np.argsort(-scores, kind="stable")
    if not len(order):
        return Selection((), False)
    kept = _spread([found[place] for place in order], most, budget)
    by_sentence = {id(found[place]): float(scores[place]) for place in order}
    chosen = tuple(Chosen(sentence, by_sentence[id(sentence)]) for sentence in kept)
    best = int(order[0])
    texts = {passage.passage_id: f"{passage.title} {passage.text}" for passage in passages}
    covered = coverage(question, texts[found[best].passage_id])
    quotes = quotable([one.score for one in chosen])
    if cosines is None:
        return Selection(chosen, covered >= ANSWERABLE_WITHOUT_VECTORS, quotes)
    return Selection(chosen, float(cosines[best]) + covered >= ANSWERABLE, quotes)


def coverage(question: str, text: str) -> float:
    """The share of the question's content words that the text has, 0 to 1; 1 for a question without any."""
    wanted = set(content_stems(question))
    return len(wanted & set(content_stems(text))) / len(wanted) if wanted else 1.0


def _overlap(question: str, found: Sequence[Sentence]) -> Scores:
    """BM25 without length normalization, its statistics taken over the candidates."""
    counts = [Counter(content_stems(sentence.quote)) for sentence in found]
    frequency = Counter(stem for count in counts for stem in count)
    weights = {stem: _idf(len(found), frequency[stem]) for stem in set(content_stems(question)) if frequency[stem]}
    return np.array([_saturated(count, weights) for count in counts])


def _idf(documents: int, frequency: int) -> float:
    return math.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))


def _saturated(count: Counter[str], weights: Mapping[str, float]) -> float:
    return sum(
        weight * count[stem] * (_SATURATION + 1) / (count[stem] + _SATURATION) for stem, weight in weights.items()
    )


def _passage_share(found: Sequence[Sentence], passages: Sequence[Passage]) -> Scores:
    standard = _standard(np.array([passage.score for passage in passages]))
    by_id = dict(zip((passage.passage_id for passage in passages), standard, strict=True))
    return np.array([by_id[sentence.passage_id] for sentence in found])


def _standard(values: Scores) -> Scores:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def _spread(ordered: Iterable[Sentence], most: int, budget: int) -> list[Sentence]:
    kept: list[Sentence] = []
    for sentence in ordered:
        size = len(sentence.quote.split())
        if kept and (size > budget or any(_alike(sentence, other) for other in kept)):
            continue
        kept.append(sentence)
        budget -= size
        if len(kept) == most:
            break
    return kept


def _alike(one: Sentence, other: Sentence) -> bool:
    a, b = set(content_stems(one.quote)), set(content_stems(other.quote))
    return len(a & b) >= _NEARLY_THE_SAME * max(1, len(a | b))
