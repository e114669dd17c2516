"""Answers that nobody ends, tasks that come too late, and which answers are exact."""

import json
from dataclasses import asdict, replace

import pytest
from sqlalchemy import event, update

from services.catalog import answers
from services.catalog.tables import answers as table
from services.common.errors import Unavailable
from services.common.moment import Moment, now
from services.common.nodes.retriever import Stage, Target
from services.orchestrator import answering
from services.orchestrator.graph.answer import Basis, Cited, Considered
from services.orchestrator.graph.run import answer
from tests.fakes.gateway import MemoryStream, OnePassage, ask, catalog_in, citation, nodes_over, said

MINUTE_US = 60_000_000


@pytest.fixture
def catalog(tmp_path):
    opened = catalog_in(tmp_path)
    yield opened
    opened.close()


def asked_before(catalog, minutes):
    question = ask(catalog)
    with catalog.write() as tx:
        mine = table.c.answer_id == question.answer_id
        tx.execute(update(table).where(mine).values(created_at=now() - minutes * MINUTE_US))
    return question


def ended(catalog, question):
    with catalog.read() as tx:
        return answers.outcome(tx, question.answer_id)


def test_what_was_asked_long_ago_and_has_no_end_is_given_up(catalog):
    forgotten, recent, done = asked_before(catalog, 11), asked_before(catalog, 9), asked_before(catalog, 11)
    problem, record = Unavailable("gone").problem(), said(done, "It opened.").to_json()
    with catalog.write() as tx:
        assert answers.record(tx, done.answer_id, 1, answers.DONE, record)
        assert answers.give_up(tx, now() - 10 * MINUTE_US, problem) == 1
    assert ended(catalog, forgotten) == (answers.FAILED, problem)
    assert ended(catalog, recent) is None and ended(catalog, done)[0] == answers.DONE


def test_what_has_no_end_is_found_without_reading_every_answer(catalog):
    seen = []
    event.listen(catalog.engine, "before_cursor_execute", lambda *told: seen.append(told[2:4]))
    with catalog.write() as tx:
        answers.give_up(tx, 0, {})
        [(statement, values)] = [told for told in seen if told[0].startswith("UPDATE answers")]
        plan = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    assert [row for row in plan if "answers_open" in row[-1]], plan


class Searched(OnePassage):
    """Finds as it does by the methods given, one for canonical questions and one for passages."""

    def __init__(self, questions, passages):
        super().__init__()
        self.methods = {Target.QUESTIONS: questions, Target.PASSAGES: passages}

    async def search(self, query):
        found = await super().search(query)
        return replace(found, plan=[Stage("dense", self.methods[query.target], 1, 3, 0.1)])


@pytest.mark.parametrize(
    ("questions", "passages", "exact"),
    [("vectors", "vectors", True), ("codes", "vectors", False), ("vectors", "graph", False)],
)
async def test_an_answer_is_exact_where_nothing_was_searched_approximately(catalog, questions, passages, exact):
    nodes = replace(nodes_over(catalog), retriever=Searched(questions, passages))
    question = replace(ask(catalog), moment=Moment(now(), now()))

    async def emit(_):
        return None

    assert (await answer(nodes, question, emit)).exact is exact


async def test_a_task_whose_attempt_was_given_up_is_not_worked_on(catalog):
    question, stream = ask(catalog), MemoryStream()
    with catalog.write() as tx:
        assert answers.next_attempt(tx, question.answer_id) == 2
    await stream.admit(2)
    await answering.work(nodes_over(catalog), stream, question, 1)
    assert stream.events == [] and ended(catalog, question) is None


def test_what_is_kept_of_a_question_and_an_answer_is_every_field(catalog):
    question = replace(ask(catalog), filters={"kind": ["a"]}, weights={"usage.cited": 0.5})
    assert question.to_json() == asdict(question)
    passage, cited = Considered("p", "d", "0a", {"usage.cited": 2.0}), Cited("p", "0b")
    given = said(question, "Yes [1].", citation(), basis=Basis((passage,), "f", (cited,), "0c"), trace=({"step": "a"},))
    kept = given.to_json()
    assert kept.keys() == asdict(given).keys()
    assert kept["citations"][0].keys() == asdict(citation()).keys()
    assert json.dumps(kept["basis"]) == json.dumps(asdict(given.basis))
