"""Follow-up questions as they are read: completed where they are a piece, explained where they say "it"."""

import pytest

from services.orchestrator.graph.conversing import MOST_TOKENS, Turn, standing_alone

MAYOR = Turn("Who was the mayor of Lisbon in 2015?", "Fernando Medina became mayor of Lisbon in April 2015. [1]")
HARBOUR = Turn("When did the old harbour open?", "It opened in 1901. [1]")
TESLA = Turn("Where was Nikola Tesla born?", "He was born in Smiljan. [1]")


@pytest.mark.parametrize(
    ("before", "question", "read"),
    [
        (MAYOR, "And in 2021?", "Who was the mayor of Lisbon in 2021?"),
        (MAYOR, "in 2021?", "Who was the mayor of Lisbon in 2021?"),
        (MAYOR, "What about before 2010?", "Who was the mayor of Lisbon before 2010?"),
        (MAYOR, "What about Porto?", "Who was the mayor of Porto in 2015?"),
        (MAYOR, "When was he born?", "When was Fernando Medina born?"),
        (MAYOR, "What was his party?", "What was Fernando Medina's party?"),
        (HARBOUR, "Who built it?", "Who built the old harbour?"),
        (HARBOUR, "What was its cost?", "What was the old harbour's cost?"),
        (HARBOUR, "And in 1950?", "When did the old harbour open in 1950?"),
        (TESLA, "When did he die?", "When did Nikola Tesla die?"),
        (TESLA, "Who inherited his papers?", "Who inherited Nikola Tesla's papers?"),
        (Turn("Who is the head of state?"), "Where does she live?", "Where does the head of state live?"),
        (
            Turn("Who led Siemens in 2019?", "Joe Kaeser. [1]"),
            "Who was her successor?",
            "Who was Joe Kaeser's successor?",
        ),
    ],
)
def test_what_a_follow_up_leaves_out_is_put_in(before, question, read):
    assert standing_alone(question, [before]) == read


@pytest.mark.parametrize(
    "question",
    [
        "When did Napoleon lose his army?",
        "How many seats are there?",
        "Is it true that the tower leans?",
        "Who was the mayor of Porto in 2015?",
        "And who paid for the bridge?",
        "",
        "?",
    ],
)
def test_a_question_that_stands_alone_stays_as_it_is(question):
    assert standing_alone(question, [MAYOR]) == question


def test_without_a_conversation_nothing_is_read_into_a_question():
    assert standing_alone("When was he born?", []) == "When was he born?"


def test_a_follow_up_of_a_follow_up_is_read_through_both():
    turns = [MAYOR, Turn("And in 2021?", "Carlos Moedas. [1]")]
    assert standing_alone("When was he born?", turns) == "When was Carlos Moedas born?"


def test_only_the_end_of_a_long_conversation_is_read():
    long = Turn("Where was Marie Curie born?", "x" * (MOST_TOKENS * 4))
    assert standing_alone("When did she die?", [long]) == "When did she die?"
    assert standing_alone("When did she die?", [long, TESLA]) == "When did Nikola Tesla die?"
