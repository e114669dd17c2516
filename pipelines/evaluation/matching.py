"""Measuring whether a question is matched to the canonical one it means, whatever the moment.

Asked of facts that are valid for ever, one for each question: which of them an answer cites is what was matched.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.evaluation.facts import FactRow, normalise
from pipelines.evaluation.figures import Json, share
from pipelines.evaluation.wording import RULES, entity, paraphrases, swaps

SWAPS = 3
"""Questions about somebody else, for each question."""
NEGATIVES = 200
"""Questions that are about other texts altogether."""

Kind = Literal["paraphrased", "swapped", "negative"]


@dataclass(frozen=True, slots=True)
class Wording:
    """A question to put, the canonical question it is made of, and the rule by which, if it is a paraphrase."""

    kind: Kind
    question: str
    meant: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Matched:
    """The canonical question that the answer to a wording cites; empty where it cites no fact."""

    wording: Wording
    cited: str

    @property
    def right(self) -> bool:
        return bool(self.cited) and normalise(self.cited) == normalise(self.wording.meant)


def wordings(facts: Sequence[FactRow], negatives: Sequence[str], seed: int) -> list[Wording]:
    """Each question in other words, and about others; with a sample of the questions that mean none of them."""
    rng = random.Random(seed)
    about = {fact.question: entity(fact.question, fact.source) for fact in facts}
    made = [
        Wording("paraphrased", text, question, rule)
        for question, own in about.items()
        for rule, text in paraphrases(question, own, rng).items()
    ]
    made += [
        Wording("swapped", text, question) for question, texts in swaps(about, SWAPS, rng).items() for text in texts
    ]
    chosen = rng.sample(list(negatives), min(NEGATIVES, len(negatives)))
    return [*made, *(Wording("negative", text) for text in chosen)]


def matched(wording: Wording, answer: Json) -> Matched:
    cited = next((citation for citation in answer["citations"] if citation["kind"] == "fact"), None)
    return Matched(wording, cited["title"] if cited else "")


def matching_figures(found: Sequence[Matched]) -> dict[str, float | int]:
    """paraphrased: the share that is matched to the question meant, also by rule; swapped: the share that is matched to
    any; false_matches: how many questions about other texts are."""
    paraphrased = [one for one in found if one.wording.kind == "paraphrased"]
    swapped = [one for one in found if one.wording.kind == "swapped"]
    negatives = [one for one in found if one.wording.kind == "negative"]
    rules = {rule: [one for one in paraphrased if one.wording.rule == rule] for rule in (*RULES, "all")}
    return {
        "paraphrased": _matched(paraphrased),
        "swapped": round(share(sum(bool(one.cited) for one in swapped), len(swapped)), 4),
        **({"false_matches": sum(bool(one.cited) for one in negatives)} if negatives else {}),
        **{f"paraphrased_{rule}": _matched(mine) for rule, mine in rules.items() if mine},
        "asked_paraphrased": len(paraphrased),
        "asked_swapped": len(swapped),
        "asked_negatives": len(negatives),
    }


def _matched(found: Sequence[Matched]) -> float:
    return round(share(sum(one.right for one in found), len(found)), 4)
