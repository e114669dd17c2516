"""Answers that nobody ends, and tasks that come too late."""

import pytest
from sqlalchemy import event, update

from services.catalog import answers
from services.catalog.tables import answers as table
from services.common.errors import Unavailable
from services.common.moment import now
from services.orchestrator import answering
from tests.fakes.gateway import MemoryStream, ask, catalog_in, nodes_over, said

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


async def test_a_task_whose_attempt_was_given_up_is_not_worked_on(catalog):
    question, stream = ask(catalog), MemoryStream()
    with catalog.write() as tx:
        assert answers.next_attempt(tx, question.answer_id) == 2
    await stream.admit(2)
    await answering.work(nodes_over(catalog), stream, question.answer_id, 1)
    assert stream.events == [] and ended(catalog, question) is None
