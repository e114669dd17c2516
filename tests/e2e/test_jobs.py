"""Jobs on a real stack: stopped, taken up again, passed by small ones; a folder kept in step."""

import json
import time

import pytest

from tests.support import eventually, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with running_stack(tmp_path_factory.mktemp("jobs") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def bulk(tmp_path_factory):
    """Thousands of rows: minutes of work on any machine."""
    rows = [
        {"id": f"b{n}", "title": f"Entry {n}", "text": " ".join(f"The value {n} of {m} is {n * m}." for m in range(30))}
        for n in range(4_000)
    ]
    file = tmp_path_factory.mktemp("bulk") / "bulk.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def start(stack, *arguments):
    return stack.json("ingest", *map(str, arguments))["jobs"][0]["id"]


def state(stack, job):
    return stack.json("jobs", "show", job)


def reaching(stack, job, *states, seconds=60):
    return eventually(lambda: (found := state(stack, job))["state"] in states and found, seconds, stack.logs())


def uploads(stack):
    return {path.name for path in (stack.home / "uploads").iterdir()}


def held(stack, collection):
    """How many documents the catalog holds."""
    return {one["name"]: one["documents"] for one in stack.json("collections")["collections"]}[collection]


def visible(stack, collection, query):
    return {hit["doc_id"] for hit in stack.json("search", query, "-c", collection, "-n", "20")["hits"]}


def test_small_jobs_pass_a_bulk_one_which_is_cancelled_at_once_and_goes_on_where_it_stood(stack, bulk, tmp_path):
    job = start(stack, bulk, "-c", "bulk")
    running = eventually(lambda: (found := state(stack, job))["done"] > 0 and found["rate"] and found, 120)
    assert running["state"] == "running" and running["total"] == 4_000
    assert running["rate"]["rows"] > 0 and running["eta_seconds"] > 0

    (tmp_path / "small.md").write_text("# Small\n\nThe harbour opened in 1901.")
    small = start(stack, tmp_path / "small.md", "-c", "small")
    reaching(stack, small, "done", seconds=20)
    assert state(stack, job)["state"] == "running" and small not in uploads(stack)

    assert stack.json("jobs", "cancel", job)["job"]["state"] == "cancelled"
    cancelled, documents = state(stack, job), held(stack, "bulk")
    time.sleep(3)
    assert (state(stack, job), held(stack, "bulk")) == (cancelled, documents), "nothing was committed after that"
    assert 0 < cancelled["done"] < 4_000 and job in uploads(stack)
    assert stack.almanac("jobs", "cancel", small, check=False).returncode == 1

    stack.almanac("jobs", "retry", job)
    again = eventually(lambda: (found := state(stack, job))["done"] > cancelled["done"] and found, 60)
    assert again["state"] == "running" and again["attempts"] == 2
    assert documents == cancelled["done"] < held(stack, "bulk"), "what was committed stays, and no row is doubled"
    stack.almanac("jobs", "cancel", job)
    assert [one["id"] for one in stack.json("jobs", "list", "--state", "cancelled")["jobs"]] == [job]


def test_failed_rows_are_tried_again_alone_and_the_rest_of_the_upload_is_gone(stack, tmp_path):
    rows = ['{"id": "good", "text": "secret sentence"}', '{"id": "bad", "text": 7}', "no json"]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    job = start(stack, tmp_path / "rows.jsonl", "-c", "rows")
    done = reaching(stack, job, "done")
    assert [failure["line"] for failure in done["failures"]] == [2, 3]
    [kept] = (stack.home / "uploads" / job).iterdir()
    assert kept.read_text() == f"\n{rows[1]}\n{rows[2]}"
    again = stack.json("jobs", "retry", job, "--failed", "--wait")
    assert (again["failed"], again["versions"]) == (2, 0)
    assert [failure["line"] for failure in again["failures"]] == [2, 3]
    refused = stack.almanac("jobs", "retry", job, "--failed", check=False)
    assert refused.returncode == 1 and "retried already" in refused.stderr


def test_a_folder_is_kept_in_step_and_a_second_run_does_nothing(stack, tmp_path):
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.md").write_text("# Apples\n\nApples are red.")
    (folder / "deep" / "b.md").write_text("---\nid: pears\n---\n# Pears\n\nPears are green.")
    (folder / "c.jsonl").write_text('{"id": "c1", "text": "Cherries are dark."}\n{"id": "c2", "text": "Cats purr."}\n')

    def sync():
        found = stack.json("sync", str(folder), "-c", "notes")
        return tuple(found[name] for name in ("sent", "unchanged", "removed", "ended")), found

    counts, found = sync()
    assert counts == (3, 0, 0, 0) and (found["documents"], found["failed"]) == (4, 0)
    jobs_before = stack.json("jobs", "list")["jobs"]
    assert sync()[0] == (0, 3, 0, 0)
    assert stack.json("jobs", "list")["jobs"] == jobs_before, "nothing was sent"

    (folder / "a.md").rename(folder / "apples.md")
    (folder / "deep" / "b.md").rename(folder / "b.md")
    (folder / "c.jsonl").write_text('{"id": "c1", "text": "Cherries are dark."}\n')
    counts, found = sync()
    assert counts == (3, 0, 2, 2), "a has gone with its name, c2 with its line; the pears have moved"
    assert found["encoded"] == 1, "the moved pears have their vector still; the apples are another document"
    eventually(lambda: visible(stack, "notes", "apples pears cherries cats") == {"apples", "pears", "c1"}, 20)
    assert sync()[0] == (0, 3, 0, 0)

    for file in folder.rglob("*.*"):
        file.unlink()
    refused = stack.almanac("sync", str(folder), "-c", "notes", check=False)
    assert refused.returncode == 1 and "--allow-empty" in refused.stderr
    assert stack.json("sync", str(folder), "-c", "notes", "--allow-empty")["ended"] == 3
