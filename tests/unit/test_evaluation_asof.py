"""The measurement of answers at moments, on cases small enough to work out by hand."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.evaluation import holds
from pipelines.evaluation.asof import Ask, Grade, asof_figures, gaps, grade, middle, plan
from pipelines.evaluation.facts import YEAR, FactRow, load_facts, normalise, recorded_late, undated
from services.common.errors import InvalidRequest
from services.common.moment import OPEN_END, OPEN_START, Span, parse_instant

T = parse_instant


def span(start: str, end: str) -> Span:
    return Span(T(start), T(end))


FACTS = [
    FactRow("Who led Siemens?", "Peter Löscher", (), span("2007-07-01", "2013-08-01")),
    FactRow("Who led Siemens?", "Joe Kaeser", ("Josef Käser",), span("2014-01-01", "2021-02-01")),
    FactRow("Who headed Siemens?", "Interim Person", (), span("2013-08-01", "2014-01-01")),
]


def citation(**given: Any) -> dict[str, Any]:
    return {
        "n": 1,
        "kind": "fact",
        "title": "Who led Siemens?",
        "quote": "Joe Kaeser",
        "valid_from": "2014-01-01T00:00:00Z",
        "valid_to": "2021-02-01T00:00:00Z",
        "recorded_from": "2024-01-01T00:00:00Z",
        **given,
    }


def answer(*citations: dict[str, Any]) -> dict[str, Any]:
    return {"answer": "", "citations": list(citations), "moment": {"known_at": "2025-01-01T00:00:00Z"}}


AT_2016 = Ask("span", "Who led Siemens?", T("2016-01-01"), fact=FACTS[1])
IN_GAP = Ask("gap", "Who led Siemens?", T("2013-10-01"))


def test_facts_are_read_with_their_spans_and_open_ends(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    rows = [
        {"question": "q", "answer": "a", "also_accepted": ["b"], "valid_from": "2001-01-01", "valid_to": "2002-01-01"},
        {"question": "q", "answer": "c", "valid_from": None},
    ]
    file.write_text("\n\n".join(json.dumps(row) for row in rows))
    assert load_facts(file) == [
        FactRow("q", "a", ("b",), span("2001-01-01", "2002-01-01")),
        FactRow("q", "c", (), Span(OPEN_START, OPEN_END)),
    ]


@pytest.mark.parametrize("line", ["{", "[]", '{"question": "q"}', '{"question":"q","answer":"a","valid_from":"May"}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "facts.jsonl.gz"
    file.write_bytes(gzip.compress(f'{{"question": "q", "answer": "a"}}\n{line}\n'.encode()))
    with pytest.raises(InvalidRequest, match="line 2"):
        load_facts(file)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("Joe  KAESER.", True),
        ("It was Joe Kaeser, since 2013.", True),
        ("josef käser", True),
        ("Joe Kaeserling", False),
        ("Kaeser", False),
        ("", False),
    ],
)
def test_an_answer_is_accepted_by_whole_words_however_written(said: str, right: bool) -> None:
    assert FACTS[1].accepts(said) is right


def test_an_accepted_answer_without_any_letter_accepts_nothing() -> None:
    assert not FactRow("q", "—", (), Span()).accepts("anything")


def test_normalising_folds_case_punctuation_and_space() -> None:
    assert normalise("  ATR-42\tTurbo–Prop, ") == "atr 42 turbo prop"


def test_the_middle_of_a_span_lies_in_it_even_if_an_end_is_open() -> None:
    assert middle(span("2001-01-01", "2001-01-03")) == T("2001-01-02")
    for one in (Span(), Span(OPEN_START, T("1990-01-01")), Span(T("1990-01-01"), OPEN_END)):
        assert middle(one) in one


def test_gaps_lie_before_the_first_span_and_between_those_that_do_not_meet() -> None:
    spans = [span("2005-01-01", "2006-01-01"), span("2001-01-01", "2003-01-01"), span("2003-01-01", "2004-01-01")]
    before, between = gaps(spans)
    assert before.end == T("2001-01-01") and before.start == T("2000-01-02")
    assert between == span("2004-01-01", "2005-01-01")
    assert gaps([]) == []
    assert gaps([Span(OPEN_START, T("2001-01-01"))]) == []


def test_the_plan_asks_every_span_twice_and_every_gap() -> None:
    facts = [replace(fact, recorded_at=fact.valid.end) for fact in FACTS]
    asks = plan(facts)
    assert [ask.fact for ask in asks if ask.kind == "span"] == facts
    assert all(ask.as_of in ask.fact.valid for ask in asks if ask.fact)
    assert sum(ask.kind == "gap" for ask in asks) == 3
    late = [ask for ask in asks if ask.kind == "late"]
    assert [ask.known_at for ask in late] == [T("2013-07-31"), T("2021-01-31"), T("2013-12-31")]
    assert [ask.as_of for ask in late] == [middle(fact.valid) for fact in facts]


def test_facts_are_recorded_late_in_order_at_instants_of_their_own_and_never_after_the_clock() -> None:
    facts = recorded_late([*FACTS, replace(FACTS[0], question="Who else?")], YEAR, T("2014-06-01"))
    at = [fact.recorded_at for fact in facts]
    assert at == sorted(set(at)) and max(at) < T("2014-06-01")
    assert at[0] == T("2008-06-30") and at[1] == at[0] + 1_000_000 and facts[1].question == "Who led Siemens?"


def test_a_fact_is_written_as_the_line_it_is_read_from(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    facts = [replace(FACTS[1], question_id="q1", source="a page"), FactRow("Who?", "A", (), Span())]
    file.write_text("\n".join(json.dumps(fact.to_json()) for fact in facts))
    assert load_facts(file) == facts
    assert "valid_from" not in facts[1].to_json()


def test_undated_facts_are_one_for_each_question_and_always_valid() -> None:
    one, other = undated([replace(FACTS[0], recorded_at=5), *FACTS[1:]])
    assert (one.answer, other.answer) == ("Peter Löscher", "Interim Person")
    assert one.valid == other.valid == Span()


def test_a_right_fact_of_the_moment_is_right_and_no_leak() -> None:
    assert grade(AT_2016, answer(citation()), FACTS) == Grade("span", True, 1, 0)


def test_only_the_first_fact_counts_and_passages_do_not_answer() -> None:
    assert not grade(AT_2016, answer(citation(quote="Peter Löscher"), citation()), FACTS).right
    assert not grade(AT_2016, answer(citation(kind="passage")), FACTS).right


@pytest.mark.parametrize(
    "leaking",
    [
        citation(valid_to="2015-01-01T00:00:00Z"),
        citation(valid_from="2016-01-01T00:00:00.000001Z"),
        citation(recorded_from="2025-01-01T00:00:00.000001Z"),
        citation(kind="passage", valid_to="2016-01-01T00:00:00Z"),
        citation(quote="Peter Löscher", valid_from=None, valid_to=None),
    ],
    ids=["ended", "not yet", "recorded later", "passage ended", "another span's answer under a false span"],
)
def test_what_lies_outside_the_moment_leaks(leaking: dict[str, Any]) -> None:
    assert grade(AT_2016, answer(leaking), FACTS).leaks == 1


def test_undated_passages_do_not_leak() -> None:
    open_ended = citation(kind="passage", title="Siemens", valid_from=None, valid_to=None)
    assert grade(AT_2016, answer(open_ended), FACTS).leaks == 0


def test_any_fact_of_the_question_leaks_in_a_gap() -> None:
    for quote in ("Peter Löscher", "Joe Kaeser"):
        stale = citation(quote=quote, valid_from=None, valid_to=None)
        assert grade(IN_GAP, answer(stale), FACTS) == Grade("gap", False, 1, 1)


def test_a_fact_on_file_for_another_wording_is_counted_in_a_gap_but_does_not_leak() -> None:
    twin = citation(title="Who headed Siemens?", quote="Interim Person", valid_from=None, valid_to=None)
    assert grade(IN_GAP, answer(twin), FACTS) == Grade("gap", False, 1, 0)


def test_what_was_recorded_after_the_moment_leaks_whatever_the_citation_says() -> None:
    facts = [replace(FACTS[1], recorded_at=T("2020-01-01"))]
    early = replace(AT_2016, kind="late", known_at=T("2019-12-31"))
    assert grade(early, answer(citation(recorded_from="2014-01-01T00:00:00Z")), facts).leaks == 1
    assert grade(replace(early, known_at=T("2020-01-01")), answer(citation(recorded_from=None)), facts).leaks == 0


def test_a_hidden_answer_in_the_text_leaks_without_any_citation() -> None:
    assert grade(IN_GAP, {**answer(), "answer": "It was Peter Löscher."}, FACTS).leaks == 1
    assert grade(AT_2016, {**answer(), "answer": "It was Joe Kaeser."}, FACTS).leaks == 0


def test_the_figures_are_shares_and_counts_by_kind() -> None:
    grades = [
        Grade("span", True, 1, 0),
        Grade("span", True, 1, 0),
        Grade("span", False, 0, 2),
        Grade("gap", False, 2, 1),
        Grade("gap", False, 0, 0),
        Grade("late", False, 0, 0),
    ]
    figures = asof_figures(grades)
    assert figures == {
        "accuracy": 0.6667,
        "leaks": 3,
        "gaps": 1,
        "asked_spans": 3,
        "asked_late": 1,
        "asked_gaps": 2,
    }
    assert holds(figures, {"accuracy": {"min": 0.6667}, "leaks": {"max": 3}})
    assert not holds(figures, {"accuracy": {"min": 0.67}})
    assert not holds(figures, {"leaks": {"max": 2}})
    assert asof_figures([])["accuracy"] == 0.0
