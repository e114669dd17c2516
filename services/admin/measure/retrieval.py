"""Rankings of documents."""

from __future__ import annotations

from pathlib import Path

from pipelines.evaluation import Targets, read_lines
from pipelines.evaluation.retrieval import best_passages, load_judgements, retrieval_figures
from services.admin import jobs
from services.admin.client import Gateway, Json
from services.admin.failures import Failed
from services.admin.measure.run import report, require_done, together

_SEARCH_LIMIT = 100

TARGETS: Targets = {"ndcg@10": {"min": 0.73}}


def measure_retrieval(gateway: Gateway, corpus: Path, queries: Path, qrels: Path, collection: str) -> Json:
    """Rankings of documents by their best passages, against judgements."""
    _ensure(gateway, corpus, collection)
    judged = load_judgements(qrels)
    texts = {str(row["id"]): str(row["text"]) for _, row in read_lines(queries)}
    asked = [query for query in judged if query in texts]
    if len(asked) < len(judged):
        raise Failed(f"{queries} lacks {len(judged) - len(asked)} of the {len(judged)} queries judged in {qrels}")

    def rank(query: str) -> list[str]:
        body = {"query": texts[query], "collection": collection, "limit": _SEARCH_LIMIT}
        return best_passages(gateway.post("/v1/search", body)["hits"])

    rankings = dict(zip(asked, together(rank, asked, "searching"), strict=True))
    return report("retrieval", retrieval_figures(rankings, judged), TARGETS)


def _ensure(gateway: Gateway, corpus: Path, collection: str) -> None:
    """Ingest the corpus unless the collection holds as many documents already."""
    wanted = sum(1 for _ in read_lines(corpus))
    held = {one["name"]: one["documents"] for one in gateway.get("/v1/collections")["collections"]}
    if held.get(collection, 0) < wanted:
        require_done(jobs.wait(gateway, jobs.send(gateway, "documents", [_upload(corpus)], {"collection": collection})))


def _upload(path: Path) -> tuple[str, Path]:
    return path.name, path
