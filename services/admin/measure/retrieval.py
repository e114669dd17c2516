"""Rankings of documents."""

from __future__ import annotations

from pathlib import Path

from pipelines.evaluation import Targets, read_lines
from pipelines.evaluation.retrieval import best_passages, load_judgements, retrieval_figures
from services.admin.client import Gateway, Json
from services.admin.failures import Failed
from services.admin.measure.run import ensure, report, together

_SEARCH_LIMIT = 100

TARGETS: Targets = {"ndcg@10": {"min": 0.73}}


def measure_retrieval(gateway: Gateway, corpus: Path, queries: Path, qrels: Path, collection: str) -> Json:
    """Rankings of documents by their best passages, against judgements."""
    ensure(gateway, corpus, collection)
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
