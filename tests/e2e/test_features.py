"""Features through a real stack: the plan, the online store, a training set, a profile, and the check of it all."""

import json

import pytest

from tests.support import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_what_is_applied_already_changes_nothing(stack):
    assert stack.json("features", "apply", "--dry-run") == {"changes": ["nothing changes"], "applied": False}
    assert stack.json("features", "apply")["applied"]


def test_every_view_is_brought_up_and_listed(stack):
    views = {view["name"]: view for view in stack.json("features", "list")["views"]}
    assert views["documents"]["rows"] > 0 and "almanac" in views["documents"]["watermarks"]
    assert stack.json("features", "materialize")["materialized"].keys() == views.keys()
    assert all(view["materialized"] for view in stack.json("features", "list")["views"])


def test_a_training_set_knows_what_held_then(stack, tmp_path):
    asked, found = tmp_path / "asked.jsonl", tmp_path / "found.jsonl"
    asked.write_text("\n".join(json.dumps({"entity": "pluto", "at": at}) for at in ("1679-01-01", "2100-01-01")))
    stack.almanac("features", "training", "documents", str(asked), "-o", str(found), "-c", "almanac")
    past, future = map(json.loads, found.read_text().splitlines())
    assert not past["found"] and future["found"] and future["values"]["length_chars"] > 0


def test_a_profile_that_is_set_is_served_within_seconds(stack):
    stack.almanac("profiles", "set", "--plan", "team", "--questions-per-day", "100000")
    stack.almanac("profiles", "set", "--user", "ann", "--locale", "de-AT")

    def shown():
        return stack.json("profiles", "show", "--user", "ann")["profile"]

    expected = {"plan": "team", "locale": "de-AT", "adapter": "", "questions_per_day": 100_000, "tokens_per_day": 0}
    eventually(lambda: shown() == expected, 30)


def test_a_check_of_a_stack_that_is_well_says_so_and_draws_it(stack, tmp_path):
    stack.ask("Is Pluto a planet?", collection="almanac")
    report = tmp_path / "check.html"
    found = stack.json("features", "check", "--collection", "almanac", "--report", str(report))
    assert found["holds"] and found["faults"] == []
    assert {view["collection"] for view in found["freshness"]} >= {"almanac", "_profiles"}
    measured = {measure["name"]: sum(measure["current"]) for measure in found["drift"]["measures"]}
    assert measured["similarity"] >= 1 and "<svg" in report.read_text()
    assert stack.almanac("features", "check", "-c", "no-such-collection", check=False).returncode == 1
