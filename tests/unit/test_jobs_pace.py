"""How fast a job goes and how long it will take."""

import pytest

from services.catalog import jobs
from services.catalog.pace import marked, rate
from services.gateway import job_view
from services.gateway.job_view import job_json

SECOND = 1_000_000
NOW = 1_000 * SECOND


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(job_view, "now", lambda: NOW)


def job(**given):
    fields = {"state": jobs.RUNNING, "cursor": 30, "total": 100, "lease_until": NOW + SECOND, "updated_at": NOW}
    pace = [[NOW - 20 * SECOND, 10, 50], [NOW - SECOND, 30, 150]]
    fields |= {"created_at": NOW - 90 * SECOND, "started_at": NOW - 60 * SECOND, "pace": pace, **given}
    return jobs.Job("j", "t", "c", "documents", **fields)


def test_rate_and_estimated_end_come_from_the_last_minute():
    shown = job_json(job())
    assert shown["rate"] == {"rows": 1.0, "passages": 5.0}
    assert shown["eta_seconds"] == 70.0 and "note" not in shown


def test_there_is_no_estimate_before_anything_moved_or_without_a_total():
    still = job(pace=[[NOW - 5 * SECOND, 30, 0]])
    assert job_json(still)["rate"] == {"rows": 0.0, "passages": 0.0} and job_json(still)["eta_seconds"] is None
    assert job_json(job(total=None))["eta_seconds"] is None
    assert job_json(job(pace=[[NOW, 0, 0]]))["rate"] is None


def test_a_job_that_ended_tells_its_speed_as_a_whole():
    shown = job_json(job(state=jobs.DONE, counts={"passages": 120}))
    assert shown["rate"] == {"rows": 0.5, "passages": 2.0} and shown["eta_seconds"] is None
    assert job_json(job(state=jobs.CANCELLED, started_at=None))["rate"] is None


def test_marks_reach_back_a_minute_and_no_further():
    pace = []
    for second in range(0, 200, 10):
        pace = marked(pace, second * SECOND, second, 2 * second)
    assert [mark[0] // SECOND for mark in pace] == [130, 140, 150, 160, 170, 180, 190]
    assert rate(pace, 190 * SECOND) == rate([pace[0], pace[-1]], 190 * SECOND)
    assert rate(pace, 190 * SECOND).rows == 1.0
    assert rate(pace, 250 * SECOND).rows == 0.5, "it falls while nothing moves"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"note": "the encoder does not answer"}, "encoder"),
        ({"pace": [[NOW - 11 * SECOND, 0, 0]]}, "no row"),
        ({"lease_until": NOW - 1}, "silent"),
        ({"state": jobs.QUEUED, "updated_at": NOW - 11 * SECOND}, "no worker"),
    ],
)
def test_a_job_that_stands_still_says_why(given, word):
    assert word in job_json(job(**given))["note"]
