"""Answers at moments."""

from __future__ import annotations

from pathlib import Path

from pipelines.evaluation import Targets
from pipelines.evaluation.asof import Ask, Grade, asof_figures, grade, load_facts, plan, written
from services.admin import jobs
from services.admin.client import Gateway, Json
from services.admin.measure.run import report, require_done, together

TARGETS: Targets = {
    "accuracy": {"min": 0.97},
    "leaks": {"max": 0},
    "swapped_matched": {"max": 0.02},
}


def measure_asof(gateway: Gateway, file: Path, collection: str, load: bool, seed: int) -> Json:
    """Accuracy and leaks of answers at moments, by the file's own spans."""
    facts = load_facts(file)
    if load:
        sent = jobs.send(gateway, "facts", [(file.name, file)], {"collection": collection})
        require_done(jobs.wait(gateway, sent))

    def put(ask: Ask) -> Grade:
        moment = {"as_of": written(ask.as_of), "collection": collection}
        answer = gateway.post("/v1/answers", {"question": ask.question, "generate": False, **moment})
        return grade(ask, answer, facts)

    grades = together(put, plan(facts, seed), "asking")
    return report("asof", asof_figures(grades), TARGETS)
