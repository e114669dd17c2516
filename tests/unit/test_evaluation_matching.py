"""The measurement of matching, and the wordings it asks with."""

from __future__ import annotations

import random

import pytest

from pipelines.evaluation.facts import FactRow
from pipelines.evaluation.matching import Matched, Wording, matched, matching_figures, wordings
from pipelines.evaluation.wording import entity, kind, names, paraphrases, swaps
from services.common.moment import Span

DICE = random.Random(0)


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Who was the Mayor of Kafjord?", ["Kafjord"]),
        ("Stefano Pioli led what football team?", ["Stefano Pioli"]),
        ("The Swedish Master-General of the Ordnance held what?", ["Swedish Master-General of the Ordnance"]),
        ("What was Athletic Club Omonoia Nicosia's home field?", ["Athletic Club Omonoia Nicosia"]),
        ("What did Escadron de Chasse 1/2 Cigognes fly?", ["Escadron de Chasse 1/2 Cigognes"]),
        ("Who owned the Newton D. Baker House in Utah?", ["Newton D. Baker House", "Utah"]),
        ("What was John Pettus' job?", ["John Pettus"]),
        ("Who governed it?", []),
    ],
)
def test_names_are_runs_of_capitalised_words(question: str, found: list[str]) -> None:
    assert names(question) == found


def test_the_entity_is_what_the_page_is_called_else_the_longest_name() -> None:
    asked = "Where did American politician Mike Lee work?"
    assert entity(asked, "en.wikipedia.org/wiki/Mike_Lee_(American_politician)") == "Mike Lee"
    assert entity(asked) == "American"
    assert entity("who governed it?") is None


def test_questions_are_of_a_kind_by_what_they_ask_for() -> None:
    assert kind("It was held by which person?") == kind("Held by whom?") == kind("Who held it?") == "who"
    assert kind("Which city was it?") == kind("It was what?") == "what"
    assert kind("Name it") == ""


def test_a_swapped_question_asks_about_what_another_of_its_kind_is_about() -> None:
    about = {
        "Who led Siemens?": "Siemens",
        "Who led Ralph Lauren?": "Ralph Lauren",
        "Who owned Entropa?": "Entropa",
        "Where did Mike Lee work?": "Mike Lee",
        "Who was it?": None,
    }
    assert swaps(about, 3, DICE)["Who led Siemens?"] == ["Who led Entropa?"], "Ralph Lauren's is a question on file"
    assert swaps(about, 3, DICE)["Where did Mike Lee work?"] == []
    assert "Who was it?" not in swaps(about, 3, DICE)


@pytest.mark.parametrize(
    ("question", "about", "rule", "text"),
    [
        ("Who was the Emir of the Emirate?", "Emirate", "articles", "Who was Emir of Emirate?"),
        ("Where did Rull stay?", "Rull", "contractions", "Where'd Rull stay?"),
        ("What city did Alfred Drury work in?", "Alfred Drury", "order", "Alfred Drury did work in what city?"),
        ("Who was the Mayor of Kafjord?", "Kafjord", "order", "The Mayor of Kafjord was who?"),
        (
            "The Fire Brigade was part of what city?",
            "Fire Brigade",
            "order",
            "Of what city, the Fire Brigade was part?",
        ),
        ("Who served as the CEO of Siemens?", "Siemens", "order", "Siemens, who served as the CEO of?"),
        ("Who commanded the U-38?", "U-38", "all", "u-38, who commanded?"),
    ],
)
def test_a_paraphrase_keeps_the_words(question: str, about: str, rule: str, text: str) -> None:
    made = paraphrases(question, about, random.Random(4))[rule]
    assert (made.lower() if rule == "all" else made) == text


def test_a_rule_that_does_not_apply_makes_no_paraphrase() -> None:
    assert set(paraphrases("Mike Lee worked for Utah", None, DICE)) == {"case", "all"}


def test_the_same_seed_makes_the_same_wordings() -> None:
    facts = [FactRow(f"Who led {name}?", name, (), Span()) for name in ("Siemens", "Bosch", "Audi")]
    facts.append(FactRow("Who owned Entropa?", "x", (), Span()))
    others = [f"Who else {number}?" for number in range(300)]
    made = wordings(facts, others, 1)
    assert made == wordings(facts, others, 1)
    assert sum(one.kind == "negative" for one in made) == 200
    assert {one.question for one in made if one.kind == "swapped"} >= {"Who led Entropa?", "Who owned Audi?"}


def test_a_paraphrase_counts_if_its_own_question_is_cited_any_other_wording_if_any_is() -> None:
    def answer(title: str) -> dict[str, object]:
        return {"citations": [{"kind": "passage", "title": "x"}, {"kind": "fact", "title": title}] if title else []}

    asks = [
        (Wording("paraphrased", "led by whom", "Who led it?", "order"), "who led it"),
        (Wording("paraphrased", "who led", "Who led it?", "case"), "Who owned it?"),
        (Wording("swapped", "Who led that?", "Who led it?"), "Who owned that?"),
        (Wording("negative", "Why?"), ""),
    ]
    figures = matching_figures([matched(wording, answer(title)) for wording, title in asks])
    assert figures == {
        "paraphrased": 0.5,
        "swapped": 1.0,
        "false_matches": 0,
        "paraphrased_case": 0.0,
        "paraphrased_order": 1.0,
        "asked_paraphrased": 2,
        "asked_swapped": 1,
        "asked_negatives": 1,
    }
    assert "false_matches" not in matching_figures([Matched(asks[0][0], "")])
