"""Distributions of questions and answers, and whether they have shifted."""

import json
import random

import pytest
from sqlalchemy import insert, select, update

from services.admin import check_report
from services.catalog import distributions
from services.catalog.answers import DONE
from services.catalog.commit import Recorder
from services.catalog.distributions import HOUR_US, MEASURES, distribution, roll_up
from services.catalog.engine import Database
from services.catalog.records import DocumentIn
from services.catalog.tables import answers
from services.catalog.tables import distributions as table
from services.gateway.drift import SHIFT, chi_squared_999, compare

HOUR = 500_000 * HOUR_US


def test_equal_distributions_have_no_index_and_reversed_ones_a_shift():
    assert compare([100, 200, 300], [10, 20, 30]).index == pytest.approx(0, abs=0.01)
    found = compare([100, 200, 300], [300, 200, 100])
    assert found.shifted and found.index == pytest.approx(2 * (1 / 3) * 1.0986, rel=0.02)
    assert compare([0, 0], [1, 2]) is None and compare([1, 2], [0, 0]) is None


def test_chance_alone_is_no_shift_and_few_answers_prove_little():
    dice = random.Random(5)
    for size in (5, 50, 500):
        for _ in range(200):
            reference, current = ([sum(dice.random() < 0.3 for _ in range(size)) for _ in range(8)] for _ in range(2))
            found = compare(reference, current)
            assert found is None or not found.shifted
    assert compare([1000, 0], [0, 1]).threshold > SHIFT


def test_the_quantile_is_the_tables():
    for freedom, expected in ((1, 10.828), (3, 16.266), (9, 27.877)):
        assert chi_squared_999(freedom) == pytest.approx(expected, rel=0.04)
    assert chi_squared_999(0) == 0


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    monkeypatch.setattr(distributions, "now", lambda: HOUR + 3 * HOUR_US)
    database = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    with database.write() as tx:
        for tenant in ("t", "u"):
            recorder = Recorder(tx, tenant, "c")
            recorder.document(DocumentIn("d", "D", "text"))
            recorder.close()
    yield database
    database.close()


def answer(database, at, words=4, similarity=0.55, grounding="quoted", tenant="t", state=DONE):
    record = {
        "question": " ".join(["secret"] * words),
        "citations": [{}] * (grounding != "abstained"),
        "grounding": grounding,
        "similarity": similarity,
    }
    with database.write() as tx:
        row = {"answer_id": f"{random.random()}", "tenant": tenant, "collection": "c", "state": state, "attempt": 1}
        tx.execute(insert(answers).values(**row, request={}, record=record, created_at=at))


def test_hours_that_are_over_are_kept_without_text_when_their_answers_are_gone(catalog):
    answer(catalog, HOUR)
    answer(catalog, HOUR + 1, words=60, similarity=None, grounding="abstained")
    answer(catalog, HOUR + 2, state="failed")
    answer(catalog, HOUR + 3, tenant="u")
    answer(catalog, HOUR + 3 * HOUR_US)  # its hour is not over
    with catalog.write() as tx:
        assert roll_up(tx) == 2
        assert roll_up(tx) == 0
        tx.execute(update(answers).values(state="gone"))
    with catalog.read() as tx:
        found = distribution(tx, "t", "c", HOUR, HOUR + HOUR_US)
        assert "secret" not in json.dumps([row.counts for row in tx.execute(select(table))])
    counted = {name: dict(zip(MEASURES[name].bins, counts, strict=True)) for name, counts in found.items()}
    assert counted["question_words"]["3 to 5"] == counted["question_words"]["40 and more"] == 1
    assert counted["similarity"]["0.5 to 0.6"] == sum(found["similarity"]) == 1
    assert counted["grounding"] == {"generated": 0, "quoted": 1, "abstained": 1}
    assert counted["citations"]["below 1"] == counted["citations"]["1 to 2"] == 1


def test_what_is_not_counted_yet_counts_all_the_same_and_nothing_twice(catalog):
    answer(catalog, HOUR)
    with catalog.write() as tx:
        roll_up(tx)
    answer(catalog, HOUR + 3 * HOUR_US - 1)
    with catalog.read() as tx:
        assert sum(distribution(tx, "t", "c", HOUR, HOUR + 4 * HOUR_US)["grounding"]) == 2
        assert sum(distribution(tx, "t", "c", HOUR + HOUR_US, HOUR + 4 * HOUR_US)["grounding"]) == 1
        assert sum(distribution(tx, "t", "c", HOUR - HOUR_US, HOUR)["grounding"]) == 0


FOUND = {
    "holds": False,
    "faults": ["facts of 'c' lacks <what> was recorded"],
    "at": "2026-01-01T00:00:00Z",
    "collection": "c",
    "freshness": [{"view": "facts", "collection": "c", "behind_seconds": 90.0, "fresh": False}],
    "fields": [
        {"view": "facts", "name": "answer", "rows": 2, "nulls": 0, "empty": 1, "least": 0, "most": 4, "faults": ["x|y"]}
    ],
    "drift": {
        "reference": {"since": "2025-01-01T00:00:00Z", "until": "2025-02-01T00:00:00Z"},
        "window": {"since": "2025-02-01T00:00:00Z", "until": "2025-02-02T00:00:00Z"},
        "measures": [
            {
                **{"name": "m", "title": "Words", "bins": ["few", "many"], "reference": [9, 1], "current": [1, 9]},
                **{"psi": 3.1, "threshold": 0.2, "shifted": True},
            },
            {
                **{"name": "n", "title": "Score", "bins": ["low", "high"], "reference": [0, 0], "current": [1, 9]},
                **{"psi": None, "threshold": None, "shifted": False},
            },
        ],
    },
}


def test_a_report_says_and_draws_what_was_found(tmp_path):
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    check_report.write(page, FOUND)
    check_report.write(text, FOUND)
    html, markdown = page.read_text(), text.read_text()
    assert "&lt;what&gt;" in html and "<what>" not in html and html.count("<svg") == 2
    assert "90.0% → 10.0%" in html and 'width="324.0"' in html
    assert "behind by 90 s" in html and "behind by 90 s" in markdown
    assert "Shifted: PSI 3.100" in markdown and "x\\|y" in markdown and "█" * 36 in markdown
    assert check_report.summary(FOUND).startswith("0 of 1 views fresh; 1 fields looked at; drift (PSI): m 3.10")
