"""One question at several moments, over time, and once more, through a real stack."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HERE = ("--collection", "almanac")
TALLEST = "What is the tallest building in the world?"


@pytest.mark.parametrize(
    ("question", "day"),
    [
        (TALLEST, "2007-06-01"),
        ("Is Pluto a planet?", "2000-06-01"),
        ("Is Pluto a planet?", "2010-06-01"),
        ("Who designed the clock tower at Westminster?", "1990-01-01"),
        ("How is the kilogram defined?", "1950-01-01"),
        ("What is the melting point of tungsten?", "2020-01-01"),
    ],
)
def test_an_answer_replays_identically(stack, question, day):
    answer = stack.json("ask", question, "--as-of", day, *HERE)
    found = stack.json("replay", answer["id"])
    assert found["identical"] and found["overlap"] == 1.0, found["differences"]


def test_compare_shows_what_changed(stack):
    moments = ("--at", "2000-06-01", "--at", "2001-06-01", "--at", "2020-06-01")
    found = stack.json("compare", TALLEST, *moments, *HERE)
    assert [change["changed"] for change in found["changes"]] == [False, True]
    shown = stack.almanac("compare", TALLEST, *moments, *HERE).stdout
    assert "↓ the same" in shown and "↓ changed" in shown and "Burj Khalifa" in shown


def test_a_timeline_has_every_answer_there_was(stack):
    found = stack.json("timeline", TALLEST, *HERE)
    answers = [entry["answer"] for entry in found["entries"]]
    assert answers[-1] == "Burj Khalifa" and "Taipei 101" in answers and "Sears Tower" in answers
    told = stack.json("timeline", "Is Pluto a planet?", *HERE)["entries"]
    assert len(told) >= 2 and all(entry["citations"] for entry in told)


def test_a_question_is_asked_at_the_date_it_names(stack):
    shown = stack.almanac("ask", "Who was the pope in 2000?", *HERE).stdout
    assert "John Paul II" in shown and "from “in 2000”" in shown
