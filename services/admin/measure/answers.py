"""Answers to questions with known answers, and to questions that nothing answers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.evaluation import Targets
from pipelines.evaluation.answers import Graded, answer_figures, grade
from pipelines.evaluation.squad import Paragraph, SquadQuestion, hold_out, load_squad, sample
from services.admin.client import Gateway, Json
from services.admin.measure.run import ensure, report, together

UNANSWERABLE = 100

TARGETS: Targets = {
    "contains": {"min": 0.80},
    "words_p90": {"max": 60},
    "ungrounded": {"max": 0.02},
    "abstained_unanswerable": {"min": 0.85},
}


def measure_answers(gateway: Gateway, file: Path, collection: str, count: int, seed: int, generate: bool) -> Json:
    """Ask `count` questions of all paragraphs, and UNANSWERABLE of half the articles that the other half answers.

    Either corpus is ingested unless it is there, one paragraph a document; the half into a collection of its own.
    """
    squad = load_squad(file)
    half, strange = hold_out(squad, UNANSWERABLE, seed)
    without = f"{collection}-half-{seed}"
    ingest_paragraphs(gateway, squad.paragraphs, collection)
    ingest_paragraphs(gateway, half, without)

    def ask(question: str, of: str) -> tuple[Json, float]:
        began = time.perf_counter()
        answer = gateway.post("/v1/answers", {"question": question, "collection": of, "generate": generate})
        return answer, (time.perf_counter() - began) * 1000

    def graded(question: SquadQuestion) -> Graded:
        return grade(question.golds, *ask(question.text, collection))

    known = together(graded, sample(squad.questions, count, seed), "asking")
    unknown = together(lambda question: ask(question.text, without)[0], strange, "asking what nothing answers")
    return report("answers", answer_figures(known, unknown), TARGETS)


def ingest_paragraphs(gateway: Gateway, paragraphs: Sequence[Paragraph], collection: str) -> None:
    """One document each, unless the collection holds them already."""
    with TemporaryDirectory() as folder:
        corpus = Path(folder) / f"{collection}.jsonl"
        corpus.write_text("".join(f"{json.dumps(paragraph.document)}\n" for paragraph in paragraphs), encoding="utf-8")
        ensure(gateway, corpus, collection)
