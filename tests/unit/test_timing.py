"""Dates in questions: which periods they name, and which words name none."""

from __future__ import annotations

import sys

import pytest

from services.common.moment import format_instant, parse_instant
from services.orchestrator.graph.timing import proposed, speaks_of_time

CLOCK = parse_instant("2026-11-21")

NAMED = [
    ("Who was the CEO in 2015?", "in 2015", "2015-12-31", "2015-01-01"),
    ("In 2015, who was the CEO?", "In 2015", "2015-12-31", "2015-01-01"),
    ("2015: who was the CEO?", "2015", "2015-12-31", "2015-01-01"),
    ("Who led it in the year 1997?", "in the year 1997", "1997-12-31", "1997-01-01"),
    ("Who won the 2014 cup?", "the 2014 cup", "2014-12-31", "2014-01-01"),
    ("Who was the CEO in early 2019?", "in early 2019", "2019-05-02", "2019-01-01"),
    ("Who led it by the end of 2019?", "by the end of 2019", "2019-12-31", "2019-01-01"),
    ("Who was mayor last March?", "last March", "2026-03-31", "2026-03-01"),
    ("Who was the CEO last year?", "last year", "2025-12-31", "2025-01-01"),
    ("Who was the CEO in March 2019?", "in March 2019", "2019-03-31", "2019-03-01"),
    ("Who was the CEO on 3 May 2020?", "on 3 May 2020", "2020-05-03", "2020-05-03"),
    ("What stood there on the 3rd of May 1920?", "on the 3rd of May 1920", "1920-05-03", "1920-05-03"),
    ("What was the rate as of 2019-03-01?", "as of 2019-03-01", "2019-03-01", "2019-03-01"),
    ("Who led it two years ago?", "two years ago", "2024-12-31", "2024-01-01"),
    ("What was it yesterday?", "yesterday", "2026-11-20", "2026-11-20"),
]


@pytest.mark.parametrize(("question", "phrase", "last", "first"), NAMED)
def test_a_period_is_tried_at_its_end_and_then_at_its_start(question, phrase, last, first):
    found = proposed(question, CLOCK)
    assert found is not None
    assert found.phrase == phrase
    assert [format_instant(one)[:10] for one in found.instants] == [last, first]


@pytest.mark.parametrize(
    ("question", "last"),
    [
        ("Who led it before the 2019 merger?", "2018-12-31"),
        ("Who led it until May 2019?", "2019-04-30"),
        ("Who led it before 2026?", "2025-12-31"),
    ],
)
def test_before_a_period_is_the_instant_before_it(question, last):
    found = proposed(question, CLOCK)
    assert found is not None
    assert [format_instant(one)[:10] for one in found.instants] == [last]


UNNAMED = [
    "Who is the CEO?",
    "Who led it between 2015 and 2018?",
    "Who has led it since 2015?",
    "How many of 1500 men survived?",
    "Was it in 2016-17?",
    "What happened in 2026?",
    "Who was the last king?",
    "What was it on 31 June 2020?",
    "How many are 25000 in 12015?",
]


@pytest.mark.parametrize("question", UNNAMED)
def test_no_period_several_or_the_present_one_propose_nothing(question):
    assert proposed(question, CLOCK) is None


def test_most_questions_are_not_looked_at():
    assert not speaks_of_time("Who is the keeper of the harbour?")


def test_a_year_alone_needs_no_date_parser(monkeypatch):
    monkeypatch.setitem(sys.modules, "dateparser.date", None)
    assert proposed("Who led it in 2014?", CLOCK) is not None
