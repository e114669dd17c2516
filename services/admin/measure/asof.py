"""Answers at moments, and which questions are matched to a fact at all."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.evaluation import Json, Targets
from pipelines.evaluation.asof import Ask, Grade, asof_figures, grade, plan
from pipelines.evaluation.facts import YEAR, FactRow, by_question, load_facts, recorded_late, undated
from pipelines.evaluation.matching import Matched, Wording, matched, matching_figures, wordings
from pipelines.evaluation.squad import load_squad
from services.admin import jobs
from services.admin.client import Gateway
from services.admin.measure.run import report, require_done, together
from services.common.moment import now

TARGETS: Targets = {
    "accuracy": {"min": 0.97},
    "leaks": {"max": 0},
    "gaps": {"max": 0},
    "paraphrased": {"min": 0.9},
    "swapped": {"max": 0.02},
    "false_matches": {"max": 2},
}


def measure_asof(gateway: Gateway, file: Path, negatives: Path | None, sample: int | None, seed: int) -> dict[str, Any]:
    """Answers at moments to facts recorded a year late; wordings of their questions, to facts valid for ever.

    `negatives`: questions that mean none of them, in SQuAD's format. `sample`: only so many of the questions.
    """
    facts = _sampled(load_facts(file), sample, seed)
    others = [question.text for question in load_squad(negatives).questions] if negatives else []
    grades = _answers(gateway, recorded_late(facts, YEAR, now()))
    found = _matches(gateway, undated(facts), wordings(facts, others, seed))
    figures = asof_figures(grades) | matching_figures(found)
    targets = {name: target for name, target in TARGETS.items() if name in figures}
    return report("asof", figures, targets)


def _sampled(facts: list[FactRow], sample: int | None, seed: int) -> list[FactRow]:
    questions = list(by_question(facts))
    chosen = set(questions if sample is None else random.Random(seed).sample(questions, min(sample, len(questions))))
    return [fact for fact in facts if fact.question in chosen]


def _answers(gateway: Gateway, facts: Sequence[FactRow]) -> list[Grade]:
    collection = _imported(gateway, facts)

    def put(ask: Ask) -> Grade:
        return grade(ask, _asked(gateway, collection, ask.to_json()), facts)

    return together(put, plan(facts), "asking at moments")


def _matches(gateway: Gateway, facts: Sequence[FactRow], asks: Sequence[Wording]) -> list[Matched]:
    collection = _imported(gateway, facts)

    def put(wording: Wording) -> Matched:
        return matched(wording, _asked(gateway, collection, {"question": wording.question}))

    return together(put, asks, "asking in other words")


def _asked(gateway: Gateway, collection: str, question: Json) -> Json:
    answer: Json = gateway.post("/v1/answers", {**question, "collection": collection, "generate": False})
    return answer


def _imported(gateway: Gateway, facts: Sequence[FactRow]) -> str:
    """The collection that holds these facts, imported as a history unless it is there; it is named after them."""
    text = "".join(json.dumps(fact.to_json()) + "\n" for fact in facts)
    collection = f"eval-asof-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    held = {one["name"] for one in gateway.get("/v1/collections")["collections"]}
    if collection not in held:
        with TemporaryDirectory(prefix="almanac-") as directory:
            history = Path(directory, "facts.jsonl")
            history.write_text(text, encoding="utf-8")
            fields = {"collection": collection, "history": "true"}
            require_done(jobs.wait(gateway, jobs.send(gateway, "facts", [(history.name, history)], fields)))
    return collection
