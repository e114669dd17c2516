"""`almanac eval answers` against a real stack, on a small file in SQuAD's format."""

import json

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ARTICLES = {
    "Old_Mill": (
        "The old mill on the river Lea was built by Anna Berg in 1871. It ground barley for the town until a flood "
        "broke its wheel in 1903. Today the mill is a museum of tools.",
        {"Who built the old mill on the river Lea?": "Anna Berg", "When did a flood break its wheel?": "1903"},
    ),
    "Harbour_Bridge": (
        "The harbour bridge carries two tram lines and was opened by the governor in May 1932. Its arch of steel "
        "weighs 39,000 tonnes. Painters need seven years from one end to the other.",
        {"How much does the steel arch weigh?": "39,000 tonnes", "Who opened the harbour bridge?": "the governor"},
    ),
    "Comet_Hale": (
        "The comet Hale passes the Sun every 2,500 years. Two amateurs found it on the same night, one of them from "
        "a car park in Arizona. Its tail could be seen without a telescope for eighteen months.",
        {"Where was the amateur who found the comet Hale?": "Arizona", "How often does the comet pass?": "2,500 years"},
    ),
    "Green_Tea": (
        "Green tea was first brought to the island by monks in 805. Its leaves are steamed soon after they have been "
        "picked. The poet Okakura called tea the cup of humanity.",
        {"Who brought green tea to the island?": "monks", "What did Okakura call tea?": "cup of humanity"},
    ),
}


def squad_file(path):
    data = [
        {
            "title": title,
            "paragraphs": [
                {
                    "context": text,
                    "qas": [
                        {"question": question, "answers": [{"text": gold, "answer_start": text.index(gold)}]}
                        for question, gold in asked.items()
                    ],
                }
            ],
        }
        for title, (text, asked) in ARTICLES.items()
    ]
    path.write_text(json.dumps({"data": data}))
    return path


def test_answers_hold_the_spans_cite_what_they_say_and_abstain_where_nothing_answers(stack, tmp_path):
    report = stack.json("eval", "answers", str(squad_file(tmp_path / "small.json")), "--sample", "6", "--seed", "3")
    figures = report["figures"]
    assert (report["name"], figures["asked"], figures["asked_unanswerable"]) == ("answers", 6, 4)
    assert report["holds"], figures
    assert figures["contains"] >= 5 / 6 and figures["ungrounded"] == 0
    assert {"exact_match", "f1", "abstained", "words_p90", "abstained_unanswerable"} <= set(figures)
    held = {one["name"]: one["documents"] for one in stack.json("collections")["collections"]}
    assert (held["eval-small"], held["eval-small-half-3"]) == (4, 2)
