"""What an answer's record says of its cost, where the model came to its end and where it was stopped before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.catalog.engine import Database
from services.common.moment import Moment, now
from services.gateway.metrics import Metrics
from services.orchestrator.graph.answer import Answer, Event
from services.orchestrator.graph.costing import NOTHING, Cost, saved
from services.orchestrator.graph.run import answer
from tests.fakes.gateway import ask, catalog_in, nodes_over, said
from tests.fakes.generator import FakeGenerator

REPLY = "It opened in 1901. [1]"
INVENTED = "Zanzibar won forty medals there. " * 50


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Database]:
    opened = catalog_in(tmp_path)
    yield opened
    opened.close()


async def answered(catalog: Database, reply: str) -> Answer:
    async def emit(event: Event) -> None:
        pass

    nodes = nodes_over(catalog, FakeGenerator(reply, pace=2_000))
    return await answer(nodes, replace(ask(catalog), moment=Moment(now(), now())), emit)


async def test_what_the_model_read_and_wrote_is_on_record(catalog: Database) -> None:
    found = await answered(catalog, REPLY)
    assert found.grounding == "generated"
    assert found.usage["prompt_tokens"] > 20
    assert found.usage["completion_tokens"] == len(REPLY.split())
    assert found.usage["engine_ms"] >= 1
    assert found.usage["encoder_texts"] >= 2, "the question, and at least one sentence"


async def test_so_is_what_a_model_cost_that_was_stopped_because_it_invents(catalog: Database) -> None:
    found = await answered(catalog, INVENTED)
    assert found.grounding == "quoted"
    assert found.usage["prompt_tokens"] > 20
    assert 0 < found.usage["completion_tokens"] < len(INVENTED.split())


def test_a_kept_answer_costs_nothing_and_says_what_it_would_have_cost() -> None:
    told = saved(Cost(200, 40, 17, 900).usage())
    assert told == {**NOTHING.usage(), "saved_tokens": 240, "saved_texts": 17, "saved_ms": 900}
    assert saved({"prompt_tokens": 5, "completion_tokens": 1})["saved_tokens"] == 6, "as older records have it"


def test_the_figures_add_up_costs_and_savings(catalog: Database) -> None:
    metrics, question = Metrics(), ask(catalog)
    for usage in (Cost(200, 40, 17, 900).usage(), saved(Cost(200, 40, 17, 900).usage())):
        metrics.answered(said(question, "Yes.", usage=usage).to_json())
    told = metrics.exposition().decode()
    for line in (
        'almanac_answer_tokens_total{kind="prompt"} 200.0',
        'almanac_answer_tokens_total{kind="completion"} 40.0',
        "almanac_answer_encoder_texts_total 17.0",
        "almanac_answer_engine_seconds_total 0.9",
        "almanac_cache_saved_tokens_total 240.0",
        "almanac_cache_saved_seconds_total 0.9",
    ):
        assert line in told
