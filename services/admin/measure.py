"""The measurements of `almanac eval`, against a running gateway."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pipelines import evaluation
from services.admin import jobs
from services.admin.client import Gateway, Json
from services.admin.failures import Failed

_CONCURRENCY = 4
_SEARCH_LIMIT = 100

ASOF_TARGETS: evaluation.Targets = {
    "accuracy": {"min": 0.97},
    "leaks": {"max": 0},
    "swapped_matched": {"max": 0.02},
}
RETRIEVAL_TARGETS: evaluation.Targets = {"ndcg@10": {"min": 0.73}}

Item = TypeVar("Item")
Result = TypeVar("Result")


def measure_asof(gateway: Gateway, file: Path, collection: str, load: bool, seed: int) -> Json:
    """Accuracy and leaks of answers at moments, by the file's own spans."""
    facts = evaluation.load_facts(file)
    if load:
        sent = jobs.send(gateway, "facts", [(file.name, file)], {"collection": collection})
        _require_done(jobs.wait(gateway, sent))

    def put(ask: evaluation.Ask) -> evaluation.Grade:
        moment = {"as_of": evaluation.written(ask.as_of), "collection": collection}
        answer = gateway.post("/v1/answers", {"question": ask.question, "generate": False, **moment})
        return evaluation.grade(ask, answer, facts)

    grades = _together(put, evaluation.plan(facts, seed), "asking")
    return report("asof", evaluation.asof_figures(grades), ASOF_TARGETS)


def measure_retrieval(gateway: Gateway, corpus: Path, queries: Path, qrels: Path, collection: str) -> Json:
    """Rankings of documents by their best passages, against judgements."""
    _ensure(gateway, corpus, collection)
    judged = evaluation.load_judgements(qrels)
    texts = {str(row["id"]): str(row["text"]) for _, row in evaluation.read_lines(queries)}
    asked = [query for query in judged if query in texts]
    if len(asked) < len(judged):
        raise Failed(f"{queries} lacks {len(judged) - len(asked)} of the {len(judged)} queries judged in {qrels}")

    def rank(query: str) -> list[str]:
        body = {"query": texts[query], "collection": collection, "limit": _SEARCH_LIMIT}
        return evaluation.best_passages(gateway.post("/v1/search", body)["hits"])

    rankings = dict(zip(asked, _together(rank, asked, "searching"), strict=True))
    return report("retrieval", evaluation.retrieval_figures(rankings, judged), RETRIEVAL_TARGETS)


def _ensure(gateway: Gateway, corpus: Path, collection: str) -> None:
    """Ingest the corpus unless the collection holds as many documents already."""
    wanted = sum(1 for _ in evaluation.read_lines(corpus))
    held = {one["name"]: one["documents"] for one in gateway.get("/v1/collections")["collections"]}
    if held.get(collection, 0) < wanted:
        _require_done(
            jobs.wait(gateway, jobs.send(gateway, "documents", [_upload(corpus)], {"collection": collection}))
        )


def _upload(path: Path) -> tuple[str, Path]:
    return path.name, path


def _require_done(ended: Sequence[Json]) -> None:
    found = jobs.summary(ended)
    if found["state"] != "done" or found.get("failed"):
        reasons = [job["error"] for job in ended if job.get("error")]
        reasons += [jobs.describe_failure(failure) for failure in found["failures"]]
        raise Failed(f"not all of it could be loaded: {(reasons or ['no reason given'])[0]}")


def _together(work: Callable[[Item], Result], items: Sequence[Item], verb: str) -> list[Result]:
    """The results in the order of the items, a few at work at a time, behind a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import track

    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        try:
            results = pool.map(work, items)
            return list(track(results, verb, total=len(items), console=Console(stderr=True)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def report(name: str, figures: dict[str, Any], targets: evaluation.Targets) -> Json:
    """One measurement as `--json` prints it."""
    return {
        "name": name,
        "machine": machine(),
        "figures": figures,
        "targets": targets,
        "holds": evaluation.holds(figures, targets),
    }


def machine() -> Json:
    """What the figures were measured on."""
    return {
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
