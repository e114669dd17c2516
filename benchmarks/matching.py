"""Matching a question to a canonical one: what each rule keeps, and what it lets through, as the threshold rises.

The wordings are those of `almanac eval asof` (`pipelines.evaluation.wording`), of several seeds; vectors come from the
default encoder in this process. Three rules: the cosine alone; names and numbers agreeing besides; and what is asked
about the names agreeing besides, which is the rule the graph has. `right`: matched to the question it was made of.
`synonyms`: the same for questions whose words besides names are replaced by others that mean about the same.
`swapped`: about somebody else, matched to any question; `original`: to the very one it was made of.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.common import Figures, data_file, parser, publish
from pipelines.evaluation import Targets
from pipelines.evaluation.facts import load_facts, undated
from pipelines.evaluation.matching import Wording, wordings
from pipelines.evaluation.squad import load_squad
from services.common.batches import batched
from services.common.nodes.encoder import Encoder, TextKind, Vectors
from services.common.rpc.deadlines import deadline
from services.encoder.encoder import build
from services.encoder.settings import EncoderSettings
from services.orchestrator.graph.facts import CANDIDATES
from services.orchestrator.graph.matching import LIMITS, Candidate, Limits, agree, choose, without_names

TARGETS: Targets = {"right": {"min": 0.9}, "swapped": {"max": 0.02}, "false": {"max": 0.01}}
COSINES = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
ALIKE = (0.0, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)
MARGINS = (0.0, 0.01, 0.02, 0.05, 0.1)
_CALL, _SECONDS = 64, 600.0
SYNONYMS = {
    "administrative center": "capital", "artistic director": "creative head", "chairman": "leader",
    "coached": "trained", "commanded": "led", "company": "firm", "country": "nation", "detained": "held in custody",
    "director": "head", "flown": "operated", "football team": "soccer club", "governed": "ruled", "granted": "awarded",
    "head": "boss", "headquarters": "head office", "held power": "ruled", "hold": "bear", "home field": "home ground",
    "home station": "broadcaster", "hosted": "presented", "housed": "kept", "imprisoned": "incarcerated",
    "job": "occupation", "led": "managed", "lived": "resided", "located": "situated", "location": "site",
    "municipality": "local authority", "nationality": "citizenship", "owned": "possessed", "plane": "aircraft",
    "played": "practised", "reside": "live", "resided": "lived", "routes": "lines", "served as the": "acted as",
    "signed onto": "joined", "sport": "discipline", "stadium": "arena", "title": "rank", "work": "practise",
}  # fmt: skip

Rule = Callable[[str, Sequence[Candidate]], str | None]


@dataclass(frozen=True)
class Case:
    """A wording with the nearest canonical questions, all of them compared without names."""

    wording: Wording
    candidates: Sequence[Candidate]


def measure(seeds: int) -> Figures:
    """The rules over their limits. Raises MissingData."""
    facts = undated(load_facts(data_file("asof_facts.jsonl")))
    others = [question.text for question in load_squad(data_file("xquad.en.json")).questions]
    made = {one.question: one for seed in range(seeds) for one in wordings(facts, others, seed)}
    asked = [*made.values(), *_synonyms(list(dict.fromkeys(fact.question for fact in facts)))]
    cases = asyncio.run(_cases(asked, [fact.question for fact in facts]))
    chosen = _row(cases, _ruled(LIMITS))
    return {
        **{f"asked_{kind}": sum(_kind(one) == kind for one in asked) for kind in sorted(set(map(_kind, asked)))},
        **chosen,
        "by_cosine_alone": [{"cosine": at, **_row(cases, _alone(at))} for at in COSINES],
        "by_cosine_and_names": [{"cosine": at, **_row(cases, _named(at))} for at in COSINES],
        "by_cosine": [{"cosine": at, **_row(cases, _ruled(replace(LIMITS, cosine=at)))} for at in COSINES],
        "by_alike": [{"alike": at, **_row(cases, _ruled(replace(LIMITS, alike=at)))} for at in ALIKE],
        "by_margin": [{"margin": at, **_row(cases, _ruled(replace(LIMITS, margin=at)))} for at in MARGINS],
    }


def _synonyms(questions: Sequence[str]) -> list[Wording]:
    """Each question with every word of the table replaced, where it has one."""
    words = re.compile(rf"\b(?:{'|'.join(sorted(SYNONYMS, key=len, reverse=True))})\b")
    made = [(question, words.sub(lambda found: SYNONYMS[found[0]], question)) for question in questions]
    return [Wording("paraphrased", text, question, "synonyms") for question, text in made if text != question]


def _kind(wording: Wording) -> str:
    return "synonyms" if wording.rule == "synonyms" else wording.kind


def _alone(cosine: float) -> Rule:
    return lambda _, candidates: next((one.key for one in candidates if one.cosine >= cosine), None)


def _named(cosine: float) -> Rule:
    def rule(asked: str, candidates: Sequence[Candidate]) -> str | None:
        return _alone(cosine)(asked, [one for one in candidates if agree(asked, one.question)])

    return rule


def _ruled(limits: Limits) -> Rule:
    def rule(asked: str, candidates: Sequence[Candidate]) -> str | None:
        chosen = choose(asked, candidates, limits)
        return chosen.key if chosen else None

    return rule


def _row(cases: Iterable[Case], rule: Rule) -> Figures:
    """Shares of each kind of wording."""
    found = [(case.wording, rule(case.wording.question, case.candidates)) for case in cases]

    def share(kind: str, of: Callable[[Wording, str | None], bool]) -> float:
        mine = [of(wording, key) for wording, key in found if _kind(wording) == kind]
        return round(sum(mine) / len(mine), 4)

    return {
        "right": share("paraphrased", lambda wording, key: key == wording.meant),
        "wrong": share("paraphrased", lambda wording, key: key not in (None, wording.meant)),
        "synonyms": share("synonyms", lambda wording, key: key == wording.meant),
        "swapped": share("swapped", lambda _, key: key is not None),
        "original": share("swapped", lambda wording, key: key == wording.meant),
        "false": share("negative", lambda _, key: key is not None),
    }


async def _cases(asked: Sequence[Wording], canonical: Sequence[str]) -> list[Case]:
    encoder, model = build(settings := EncoderSettings()), settings.encoder_model
    known = await _encoded(encoder, model, TextKind.PASSAGE, canonical)
    cosines = await _encoded(encoder, model, TextKind.QUERY, [one.question for one in asked]) @ known.T
    nearest = np.argsort(-cosines)[:, :CANDIDATES]
    pairs = [
        (row, column)
        for row, columns in enumerate(nearest)
        for column in columns
        if agree(asked[row].question, canonical[column])
    ]
    bare = [
        without_names(text, canonical[column])
        for row, column in pairs
        for text in (asked[row].question, canonical[column])
    ]
    vectors = await _encoded(encoder, model, TextKind.QUERY, bare)
    alike = dict(zip(pairs, (vectors[::2] * vectors[1::2]).sum(axis=1).tolist(), strict=True))
    return [
        Case(
            one,
            [
                Candidate(canonical[column], canonical[column], float(cosines[row, column]), alike.get((row, column)))
                for column in nearest[row]
            ],
        )
        for row, one in enumerate(asked)
    ]


async def _encoded(encoder: Encoder, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
    """Vectors in order; equal texts are encoded once."""
    distinct = list(dict.fromkeys(texts))
    with deadline(_SECONDS):
        parts = [await encoder.encode(model, kind, part) for part in batched(distinct, _CALL)]
    found = dict(zip(distinct, np.concatenate(parts), strict=True))
    return np.stack([found[text] for text in texts])


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--seeds", type=int, default=3, help="of how many seeds wordings are made")
    chosen = options.parse_args()
    return publish("matching", TARGETS, chosen.json, lambda: measure(chosen.seeds))


if __name__ == "__main__":
    sys.exit(main())
