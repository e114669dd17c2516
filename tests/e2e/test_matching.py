"""Which fact a question is matched to, through a real stack: `almanac eval asof` on a few facts, and phrasings."""

import json

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FACTS = [
    ("Who was the Mayor of Kafjord?", "Bjørn Inge Mo", "2007-01-01", "2011-01-01"),
    ("Who was the Mayor of Kafjord?", "Svein Oddvar Leiros", "2011-01-01", "2019-01-01"),
    ("Who served as the CEO of Siemens?", "Peter Löscher", "2007-07-01", "2013-08-01"),
    ("Who served as the CEO of Siemens?", "Joe Kaeser", "2014-08-01", "2021-02-01"),
    ("Where was Josep Rull detained?", "Estremera", "2017-11-02", "2018-07-04"),
    ("What city did Alfred Drury work in?", "Paris", "1881-01-01", "1885-01-01"),
    ("What rank did Ivan Kozhedub hold?", "Colonel", "1948-01-01", "1953-01-01"),
]
OTHERS = ["Who recorded the song?", "What is the capital of Norway?", "Who was the CEO of Bosch?", "When was it?"]


def test_eval_asof_holds_its_targets_on_a_few_facts(stack, tmp_path):
    file, others = tmp_path / "facts.jsonl", tmp_path / "squad.json"
    rows = [
        {"question": question, "answer": answer, "valid_from": start, "valid_to": end}
        for question, answer, start, end in FACTS
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    paragraph = {"context": "", "qas": [{"question": text, "answers": [{"text": "x"}]} for text in OTHERS]}
    others.write_text(json.dumps({"data": [{"title": "others", "paragraphs": [paragraph]}]}))
    found = stack.json("eval", "asof", str(file), "--negatives", str(others))
    assert found["holds"], found["figures"]
    figures = found["figures"]
    assert figures["accuracy"] == 1 and figures["leaks"] == figures["gaps"] == figures["false_matches"] == 0
    assert (figures["asked_spans"], figures["asked_late"], figures["asked_gaps"]) == (7, 7, 6)
    assert figures["asked_paraphrased"] > 15 and figures["asked_swapped"] and figures["asked_negatives"] == 4
    assert stack.json("eval", "asof", str(file), "--negatives", str(others))["figures"] == figures


def test_every_phrasing_leads_to_the_fact_from_its_own_record_on(stack, tmp_path):
    where = {"collection": "phrased"}
    fact = {"question": "Who heads the Heron Bay Lighthouse?", "answer": "Ada Quill"}
    first = taken_in(stack, where["collection"], tmp_path / "facts.jsonl", fact)
    asked = "To whom do the keepers of that tower at the bay report?"
    assert not told(stack.ask(asked, **where, generate=False))
    taken_in(stack, where["collection"], tmp_path / "facts.jsonl", {**fact, "phrasings": [asked]})
    for question in (asked, asked.lower(), fact["question"]):
        assert told(stack.ask(question, **where, generate=False)) == [(fact["question"], "Ada Quill")]
    assert not told(stack.ask(asked, **where, generate=False, known_at=first))


def test_the_same_thing_asked_in_other_words_is_matched_and_something_else_about_it_is_not(stack, tmp_path):
    where = {"collection": "other-words"}
    fact = {"question": "Where was Josep Rull detained?", "answer": "Estremera"}
    taken_in(stack, where["collection"], tmp_path / "facts.jsonl", fact)
    assert told(stack.ask("Where was Josep Rull imprisoned?", **where, generate=False))
    assert not told(stack.ask("Where was Josep Rull educated?", **where, generate=False))


def taken_in(stack, collection, file, fact):
    """The record time of the fact."""
    file.write_text(json.dumps(fact))
    stack.almanac("facts", "load", str(file), "--collection", collection)
    return stack.ask("Who?", collection=collection, generate=False)["moment"]["known_at"]


def told(answer):
    assert answer["degraded"] == []
    return [(citation["title"], citation["quote"]) for citation in answer["citations"] if citation["kind"] == "fact"]
