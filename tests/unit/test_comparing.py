"""When two answers say the same, and what a comparison shows of them; a moment that cannot be looked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from services.common.errors import Unavailable
from services.common.moment import Moment, now
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.comparing import changes, same, used
from services.orchestrator.graph.proposing import at_its_words
from services.orchestrator.graph.remembering import QuestionVectors
from tests.fakes.gateway import GENERATION


def answer(text: str, *quotes: str, grounding: str = "generated", kind: str = "passage") -> dict[str, Any]:
    citations = [{"n": n, "kind": kind, "quote": quote} for n, quote in enumerate(quotes, start=1)]
    moment = {"as_of": text, "known_at": ""}
    return {"id": text, "moment": moment, "grounding": grounding, "answer": text, "citations": citations}


SAME = [
    (answer("Anna. [1]", "It is Anna."), answer("Anna. [1]", "It was Anna.")),
    (answer("Anna. [1]", "It is Anna."), answer("It is Anna. [2]", "Else.", "It is Anna.")),
    (answer("Both. [1, 2]", "a", "b"), answer("Others. [2] [1]", "b", "a")),
    (answer("Nothing.", "a", grounding="abstained"), answer("Nothing.", "b", grounding="abstained")),
]
OTHER = [
    (answer("Anna. [1]", "It is Anna."), answer("Bruno. [1]", "It is Bruno.")),
    (answer("Anna. [1]", "a", "b"), answer("Anna, so. [1] [2]", "a", "b")),
    (answer("Nothing.", "a", grounding="abstained"), answer("Anna. [1]", "a")),
    (answer("Carla", "Carla", kind="fact"), answer("Dario", "Dario", kind="fact")),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_answers_in_the_same_words_or_from_the_same_quotes_are_the_same(one, other):
    assert same(one, other) and same(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_answers_in_other_words_from_other_quotes_are_not(one, other):
    assert not same(one, other) and not same(other, one)


def test_only_what_the_text_refers_to_was_used():
    assert [one["n"] for one in used(answer("So. [3, 1] And. [1]", "a", "b", "c"))] == [3, 1]
    assert [one["quote"] for one in used(answer("Carla", "Carla", kind="fact"))] == ["Carla"]
    assert used(answer("Nothing. [1]", "a", grounding="abstained")) == []


def test_changes_are_those_between_neighbours():
    first, second, third = answer("a [1]", "qa"), answer("a [1]", "qa"), answer("b [1]", "qb")
    found = changes([first, second, third])
    assert [change["changed"] for change in found] == [False, True]
    assert [change["after"]["id"] for change in found] == ["a [1]", "b [1]"]
    assert [one["quote"] for one in found[1]["before"]["citations"]] == ["qa"]


async def test_a_moment_is_not_looked_for_without_the_nodes():
    class Down:
        async def encode(self, *_: object) -> None:
            raise Unavailable("nobody is there")

    question = Question("", "t", "c", "Who was the keeper in 2015?", Moment(now(), 2), GENERATION)
    nodes: Any = SimpleNamespace(encoder=Down(), questions=QuestionVectors())
    assert await at_its_words(nodes, question) is question
