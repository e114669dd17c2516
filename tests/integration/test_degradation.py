"""The whole graph in process with one node after the other gone: what is still answered, and what is said about it."""

import asyncio
import json
from dataclasses import replace

import pytest

from services.common.errors import Overloaded, Unavailable
from services.common.moment import Moment, parse_instant
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.released import Released
from services.orchestrator.graph.remembering import QuestionVectors
from services.orchestrator.graph.run import answer
from services.orchestrator.graph.search import search
from tests.fakes.sample import DOCUMENTED, EXAMPLES, FACT, GENERATION, sample


class Down:
    """A node that does not answer, whatever it is asked."""

    def __init__(self, error=Unavailable):
        self.error = error

    def __getattr__(self, name):
        async def call(*_, **__):
            raise self.error("down")

        return call

    async def generate(self, prompt):
        raise self.error("down")
        yield


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """(nodes, newest record time) over the sample corpus."""
    return asyncio.run(sample(tmp_path_factory.mktemp("degradation")))


async def ask(asked, text, **down):
    nodes, recorded = asked
    events = []

    async def emit(event):
        events.append(event)

    moment = Moment(parse_instant("2020-06-01"), recorded)
    question = Question("a", "local", "almanac", text, moment, GENERATION)
    found = await answer(replace(nodes, **down), question, emit)
    assert found.answer == "".join(event.data["text"] for event in events if event.kind == "text")
    return found


async def test_with_every_node_nothing_is_degraded(asked):
    assert (await ask(asked, FACT)).answer == "Burj Khalifa"
    found = await ask(asked, DOCUMENTED)
    assert found.degraded == () and "Planck" in found.answer


@pytest.mark.parametrize("error", [Unavailable, Overloaded])
async def test_without_the_generator_the_evidence_is_quoted(asked, error):
    found = await ask(asked, DOCUMENTED, generator=Down(error))
    assert found.degraded == ("generator",) and found.grounding == "quoted"
    assert found.citations[0].quote in found.answer


async def test_without_the_encoder_words_find_passages_and_facts_in_their_very_words(asked):
    assert (await ask(asked, FACT, encoder=Down())).answer == "Burj Khalifa"
    found = await ask(asked, DOCUMENTED, encoder=Down())
    assert found.degraded == ("encoder",) and "kilogram" in found.answer


async def test_without_features_there_are_no_facts_but_passages(asked):
    found = await ask(asked, FACT, features=Down())
    assert "features" in found.degraded and found.citations
    assert {citation.kind for citation in found.citations} == {"passage"}


async def test_without_the_retriever_there_are_only_facts(asked):
    found = await ask(asked, FACT, retriever=Down())
    assert found.answer == "Burj Khalifa" and found.degraded == ("retriever",)
    with pytest.raises(Unavailable, match="retriever"):
        await ask(asked, DOCUMENTED, retriever=Down())


async def test_a_search_without_the_encoder_is_lexical_and_without_the_retriever_fails(asked):
    nodes, recorded = asked
    question = Question("a", "local", "almanac", DOCUMENTED, Moment(parse_instant("2020-06-01"), recorded), GENERATION)
    without = replace(nodes, encoder=Down(), questions=QuestionVectors())
    found = await search(without, GENERATION, question.scope, DOCUMENTED, 5, {})
    assert found.degraded == ["encoder"] and found.hits and all(hit.hit.dense is None for hit in found.hits)
    with pytest.raises(Unavailable):
        await search(replace(nodes, retriever=Down()), GENERATION, question.scope, DOCUMENTED, 5, {})


async def test_the_text_of_an_earlier_attempt_is_not_told_again(asked):
    nodes, recorded = asked
    given = await ask(asked, DOCUMENTED)
    whole, told = given.answer, []

    async def emit(event):
        told.append(event.data.get("text", "") if event.kind == "text" else "")

    moment = Moment(parse_instant("2020-06-01"), recorded)
    question = Question("a", "local", "almanac", DOCUMENTED, moment, GENERATION)
    for cut in (1, len(whole) // 2, len(whole)):
        told.clear()
        again = await answer(nodes, question, emit, Released(whole[:cut], tuple(given.citations)))
        assert again.answer == whole and whole[:cut] + "".join(told) == whole


def test_the_sample_questions_have_the_form_the_demo_reads():
    for line in (EXAMPLES / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["question"] and all("as_of" in moment for moment in row["moments"])
