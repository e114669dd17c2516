"""What one attempt at an answer hands to the next: text that stays, and the quotes that its numbers mean."""

from dataclasses import replace

import pytest

from services.common.moment import OPEN_END, OPEN_START, Moment, now
from services.orchestrator.graph.grounding import ABSTENTION
from services.orchestrator.graph.released import NOTHING, Released
from services.orchestrator.graph.run import answer
from tests.fakes.gateway import TEXT, ask, catalog_in, citation, nodes_over

QUOTE = TEXT[:27]
"""The quote of `citation()`."""
DATED = replace(citation(), valid_from=1_000_001, valid_to=2_000_000, recorded_from=3, page=2, section=("A", "B"))
UNDATED = replace(citation(2), valid_from=OPEN_START, valid_to=OPEN_END, dated=False)


@pytest.fixture
def catalog(tmp_path):
    opened = catalog_in(tmp_path)
    yield opened
    opened.close()


async def answered(catalog, released):
    """The answer that goes on from there, and what it tells."""
    told = []

    async def emit(event):
        told.append(event)

    question = replace(ask(catalog), moment=Moment(now(), now()))
    found = await answer(nodes_over(catalog), question, emit, released)
    return found, "".join(event.data["text"] for event in told if event.kind == "text")


def test_what_is_handed_over_is_what_was_told():
    whole = Released("It opened", (DATED, UNDATED))
    assert Released.of("It opened", [one.to_json() for one in (DATED, UNDATED)]) == whole
    assert Released.from_json(whole.to_json()) == whole


def test_without_text_the_next_attempt_is_bound_by_nothing():
    assert Released.of("", [DATED.to_json()]) == NOTHING


async def test_an_answer_goes_on_with_the_evidence_that_its_text_cites(catalog):
    other = replace(citation(), quote="The quay was built in 1899.", doc_id="port/quay", end=26)
    found, told = await answered(catalog, Released("The quay was", (other,)))
    assert found.answer == "The quay was" + told == "The quay was built in 1899. [1]"
    assert found.citations == (other,)


async def test_a_whole_text_is_told_no_more_of(catalog):
    found, told = await answered(catalog, Released(f"{QUOTE} [1]", (citation(),)))
    assert (found.answer, told, found.grounding) == (f"{QUOTE} [1]", "", "quoted")


async def test_a_facts_answer_stays_the_answer(catalog):
    fact = replace(citation(), kind="fact", quote="In 1901", doc_id="", version_id="f", end=7)
    found, told = await answered(catalog, Released("In 1901", (fact,)))
    assert (found.answer, told, found.citations, found.basis.fact_id) == ("In 1901", "", (fact,), "f")


async def test_an_abstention_that_was_begun_is_ended(catalog):
    found, told = await answered(catalog, Released(ABSTENTION[:9], (citation(),)))
    assert ABSTENTION[:9] + told == found.answer == ABSTENTION and found.grounding == "abstained"
