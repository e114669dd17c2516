"""Measuring rankings: pure functions over rankings and judgements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.evaluation.figures import Json, share
from services.common.errors import InvalidRequest

Judgements = Mapping[str, Mapping[str, int]]
"""query id → document id → relevance."""


def load_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Tab-separated `query_id doc_id relevance`, with or without a header (BEIR's format)."""
    found: dict[str, dict[str, int]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split("\t")
        if not line.strip() or (number == 1 and not parts[-1].strip().lstrip("-").isdigit()):
            continue
        try:
            query, document, relevance = parts
            found.setdefault(query, {})[document] = int(relevance)
        except ValueError:
            raise InvalidRequest(f"{path}, line {number}: query_id, doc_id and relevance, tab-separated") from None
    return found


def best_passages(hits: Iterable[Json]) -> list[str]:
    """Documents in the order of their best passages; hits come best first."""
    return list(dict.fromkeys(str(hit["doc_id"]) for hit in hits))


def ndcg(ranked: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Normalised discounted cumulative gain at k, gains linear, as trec_eval has it (Järvelin & Kekäläinen, 2002)."""
    gains = [max(relevant.get(document, 0), 0) for document in ranked[:k]]
    ideal = sorted((gain for gain in relevant.values() if gain > 0), reverse=True)[:k]
    best = _discounted(ideal)
    return _discounted(gains) / best if best else 0.0


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))


def recall(ranked: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """The share of relevant documents among the first k."""
    wanted = {document for document, gain in relevant.items() if gain > 0}
    return share(len(wanted & set(ranked[:k])), len(wanted))


def retrieval_figures(rankings: Mapping[str, Sequence[str]], judged: Judgements) -> dict[str, float | int]:
    """Means over the judged queries; one without a ranking counts as 0."""

    def mean(measure: Any, k: int) -> float:
        return round(share(sum(measure(rankings.get(q, ()), judged[q], k) for q in judged), len(judged)), 4)

    return {
        "ndcg@10": mean(ndcg, 10),
        "recall@10": mean(recall, 10),
        "recall@100": mean(recall, 100),
        "queries": len(judged),
    }
