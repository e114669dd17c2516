"""The measurement of answers, on cases small enough to work out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.evaluation.answers import Graded, answer_figures, f1, grade, normalise, percentile
from pipelines.evaluation.squad import hold_out, load_squad, sample
from pipelines.evaluation.ungrounded import check_sentences
from services.common.errors import InvalidRequest

QUOTES = {
    1: "Omonia moved from the Makario Stadium to the GSP Stadium in 1999, for 1,500 pounds.",
    2: "Its shirts are green [3], people say. Supporters sing.",
}


def answer(text: str, grounding: str = "quoted") -> dict[str, Any]:
    return {
        "answer": text,
        "grounding": grounding,
        "citations": [{"n": n, "quote": quote} for n, quote in QUOTES.items()],
    }


def squad(articles: int = 4) -> dict[str, Any]:
    def paragraph(article: int, number: int) -> dict[str, Any]:
        asked = [{"question": f"q{article}{number}?", "answers": [{"text": "a"}, {"text": "b"}]}]
        return {"context": f"text {article} {number}", "qas": [*asked, {"question": "unanswerable?", "answers": []}]}

    return {
        "data": [{"title": f"Art_{n}", "paragraphs": [paragraph(n, 0), paragraph(n, 1)]} for n in range(articles)],
    }


@pytest.mark.parametrize(
    "text",
    [
        f"{QUOTES[1]} [1]",
        "moved from the Makario Stadium [1]",
        f"{QUOTES[2]} [2]",
        f"{QUOTES[1]} [1] {QUOTES[2]} [2]",
        "The GSP Stadium is where Omonia moved in 1999. [1]",
        "Omonia moved in 1999 [1, 2]",
        "Omonia moves for 1500 pounds. [1]",
    ],
)
def test_quotes_and_what_has_all_its_words_in_a_quote_are_grounded(text: str) -> None:
    assert all(check_sentences(text, QUOTES))


@pytest.mark.parametrize(
    "text",
    [
        "Omonia moved in 1998. [1]",
        "Apoel moved to the GSP Stadium in 1999. [1]",
        "Omonia moved in 1999. [2]",
        "Omonia moved in 1999. [7]",
        "Omonia moved in 1999.",
        "Omonia burned the GSP Stadium. [1]",
        f"{QUOTES[1]}",
        "Supporters sing of the GSP Stadium. [1, 2]",
    ],
)
def test_what_no_cited_quote_has_is_ungrounded(text: str) -> None:
    assert check_sentences(text, QUOTES) == [False]


def test_each_sentence_before_a_marker_is_judged_alone() -> None:
    assert check_sentences("Omonia moved in 1999. Apoel lost. [1]", QUOTES) == [True, False]
    assert check_sentences(f"{QUOTES[2]} [2] Apoel lost [1]", QUOTES) == [True, False]
    assert check_sentences("", QUOTES) == []


def test_the_checker_shares_no_code_with_the_pipeline() -> None:
    import pipelines.evaluation.ungrounded as checker

    source = Path(checker.__file__).read_text(encoding="utf-8")
    assert "from services" not in source and "import services" not in source


def test_an_answer_is_graded_against_any_of_its_spans() -> None:
    told = grade(["the GSP stadium", "x"], answer(f"{QUOTES[1]} [1]"), 5.0)
    assert (told.contains, told.exact_match, told.sentences, told.ungrounded) == (True, False, 1, 0)
    assert told.words == len(QUOTES[1].split()) + 1
    short = grade(["GSP Stadium", "x"], answer("The GSP Stadium. [1]"), 5.0)
    assert (short.contains, short.exact_match, short.f1) == (True, True, 1.0)
    assert not grade(["GSP Stad"], answer("The GSP Stadium. [1]"), 5.0).contains


def test_an_abstention_is_right_about_nothing_and_has_no_sentences() -> None:
    told = grade(["record"], answer("Nothing on record answers this question.", "abstained"), 5.0)
    assert (told.contains, told.f1, told.sentences) == (False, 0.0, 0)


def test_f1_is_of_words_counted_as_often_as_they_stand_there() -> None:
    assert f1("green green shirts", "green shirts") == pytest.approx(0.8)
    assert f1("green", "blue") == 0.0
    assert normalise("The A-380, an aircraft") == "380 aircraft"


def test_the_percentile_is_one_of_the_values() -> None:
    assert percentile(range(1, 11), 0.9) == 9
    assert percentile([3, 1], 0.5) == 1
    assert percentile([], 0.9) == 0


def test_the_figures_count_sentences_and_what_was_told() -> None:
    told = Graded(True, True, 1.0, 2, 1, 10, "quoted", 30.0)
    wrong = Graded(False, False, 0.0, 2, 0, 20, "generated", 10.0)
    silent = Graded(False, False, 0.0, 0, 0, 900, "abstained", 20.0)
    figures = answer_figures([told, wrong, silent], [answer("", "abstained"), answer("Omonia")])
    assert figures["contains"] == figures["abstained"] == figures["generated"] == 0.3333
    assert (figures["ungrounded"], figures["words_p90"]) == (0.25, 20)
    assert (figures["abstained_unanswerable"], figures["answer_ms_p50"]) == (0.5, 20.0)


def test_squad_is_read_without_what_has_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "squad.json"
    file.write_text(json.dumps(squad()))
    read = load_squad(file)
    assert (len(read.paragraphs), len(read.questions)) == (8, 8)
    assert read.paragraphs[1].document == {"id": "Art_0-1", "title": "Art 0", "text": "text 0 1"}
    assert read.questions[0].golds == ("a", "b")


@pytest.mark.parametrize("text", ["{", "[]", '{"data": [{}]}', '{"data": 3}'])
def test_another_format_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match="SQuAD"):
        load_squad(file)


def test_a_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    file = tmp_path / "squad.json"
    file.write_text(json.dumps(squad(30)))
    questions = load_squad(file).questions
    assert sample(questions, 10, 3) == sample(questions, 10, 3) != sample(questions, 10, 4)
    assert len(sample(questions, 1_000, 3)) == len(questions)


def test_what_is_held_out_asks_about_other_articles(tmp_path: Path) -> None:
    file = tmp_path / "squad.json"
    file.write_text(json.dumps(squad(10)))
    kept, asked = hold_out(load_squad(file), 5, 1)
    assert len(kept) == 10 and len(asked) == 5
    assert not {one.article for one in kept} & {one.article for one in asked}
