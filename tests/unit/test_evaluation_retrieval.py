"""The measurement of rankings, on cases small enough to work out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pipelines.evaluation.retrieval import best_passages, load_judgements, ndcg, recall, retrieval_figures
from services.common.errors import InvalidRequest


def test_judgements_are_read_with_or_without_a_header(tmp_path: Path) -> None:
    file = tmp_path / "qrels.tsv"
    for header in ("query_id\tdoc_id\trelevance\n", ""):
        file.write_text(header + "1\ta\t1\n1\tb\t0\n2\tc\t2\n")
        assert load_judgements(file) == {"1": {"a": 1, "b": 0}, "2": {"c": 2}}
    file.write_text("1\ta\t1\n1 b 1\n")
    with pytest.raises(InvalidRequest, match="line 2"):
        load_judgements(file)


def test_a_document_ranks_where_its_best_passage_does() -> None:
    assert best_passages([{"doc_id": "b"}, {"doc_id": "a"}, {"doc_id": "b"}, {"doc_id": "c"}]) == ["b", "a", "c"]


def test_ndcg_discounts_by_rank_and_compares_with_the_ideal_order() -> None:
    assert ndcg(["a", "b"], {"a": 1}, 10) == 1.0
    assert ndcg(["x", "a"], {"a": 1}, 10) == pytest.approx(1 / math.log2(3))
    assert ndcg(["b", "a"], {"a": 2, "b": 1}, 10) == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))
    assert ndcg(["x", "a"], {"a": 1}, 1) == 0.0
    assert ndcg(["a"], {"a": 0}, 10) == 0.0


def test_recall_is_the_share_of_relevant_documents_among_the_first() -> None:
    assert recall(["a", "x", "b"], {"a": 1, "b": 1, "c": 0, "d": 2}, 2) == pytest.approx(1 / 3)
    assert recall(["a", "x", "b"], {"a": 1, "b": 1, "c": 0, "d": 2}, 3) == pytest.approx(2 / 3)


def test_a_query_without_a_ranking_counts_as_nothing_found() -> None:
    figures = retrieval_figures({"1": ["a"]}, {"1": {"a": 1}, "2": {"b": 1}})
    assert figures == {"ndcg@10": 0.5, "recall@10": 0.5, "recall@100": 0.5, "queries": 2}
