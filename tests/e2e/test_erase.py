"""What is erased is nowhere: a scanner that finds it everywhere before finds it nowhere afterwards."""

import json
import shutil
import sqlite3
import time

import httpx
import pytest

from tests.e2e.scanner import found
from tests.support import eventually, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MARKERS = ["zanzibarquux", "titelmarkequux", "metamarkequux", "urimarkequux"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with running_stack(tmp_path_factory.mktemp("erase") / "home", ALMANAC_GENERATOR_BACKEND="memory") as running:
        yield running


def rows(secret):
    """A document with every marker, in the middle of others."""
    text = "# {0}\n\nThe keeper of the {0} lighthouse is called Zanzibarquux zanzibarquux since May.\n\n" * 6
    yield from (
        {"id": f"before-{n}", "title": f"Harbour {n}", "text": text.format(f"harbour {n}")[:60]} for n in range(9)
    )
    yield {
        "id": secret,
        "title": "Titelmarkequux titelmarkequux",
        "uri": "https://example.org/urimarkequux",
        "metadata": {"colour": "metamarkequux"},
        "text": text.format("northern") + "More on the zanzibarquux lamp. " * 200,
    }
    for n in range(9):
        yield {"id": f"after-{n}", "title": f"Mill {n}", "text": f"Mill {n} grinds grain."}


def taken_in(stack, tmp_path, secret, collection):
    """Ingested twice with a change, asked about, searched for; returns the ids of its passages."""
    for number in range(2):
        path = tmp_path / f"{collection}-{number}.jsonl"
        given = list(rows(secret))
        given[9]["text"] += f" Edition {number} of zanzibarquux."
        path.write_text("\n".join(json.dumps(row) for row in given))
        assert stack.json("ingest", str(path), "--collection", collection, "--wait")["failed"] == 0
    for question in ("Who is the keeper of the northern lighthouse?", "What is the zanzibarquux lamp?"):
        answer = stack.ask(question, collection=collection)
    assert secret in {citation["doc_id"] for citation in answer["citations"]}, answer
    hits = stack.json("search", "zanzibarquux lighthouse", "--collection", collection, "--limit", "50")["hits"]
    return sorted({hit["passage_id"] for hit in hits if hit["doc_id"] == secret}), answer


def holding(places):
    """The kinds of places, such as file:index or table:catalog.db:answers."""
    return {":".join(place.split("/")[0].split(":")[:3]) for place in places}


def test_a_scanner_that_finds_a_document_everywhere_finds_it_nowhere_after_it_was_erased(stack, tmp_path):
    passages, answer = taken_in(stack, tmp_path, "secret-one", "first")
    others = stack.json("search", "mill grinds grain", "--collection", "first")["hits"]
    before = found(stack.home, [*MARKERS, passages[0], "secret-one"])
    assert {"table:catalog.db:versions", "table:catalog.db:passages", "table:catalog.db:answers"} <= holding(
        before["zanzibarquux"]
    )
    assert any(place.startswith("file:catalog.db") for place in before["zanzibarquux"])
    assert any(place.startswith("valkey:almanac:answer:") for place in before["zanzibarquux"])
    assert {"file:index", "parquet:vectors", "file:vectors"} <= holding(before[passages[0]])
    assert any(place.startswith("file:index") for place in before["metamarkequux"])
    assert "parquet:features" in holding(before["secret-one"])
    assert all(before[marker] for marker in MARKERS)

    done = stack.json("erase", "secret-one", "--collection", "first", "--yes")
    assert done["job"]["state"] == "done", done

    after = found(stack.home, [*MARKERS, *passages, "secret-one"])
    left = after.pop("secret-one")
    assert after == {marker: set() for marker in after}
    # Its id stays where it says what was done and considered, and nowhere else.
    assert holding(left) <= {
        *("table:catalog.db:events", "table:catalog.db:erasures", "table:catalog.db:jobs"),
        *("table:catalog.db:audit", "table:catalog.db:answers"),
        *("file:catalog.db", "file:catalog.db-wal", "file:erasures.jsonl"),
    }
    hits = stack.json("search", "mill grinds grain", "--collection", "first")["hits"]
    assert {hit["doc_id"] for hit in others} - {"secret-one"} <= {hit["doc_id"] for hit in hits}
    kept = httpx.get(f"{stack.url}/v1/answers/{answer['id']}", trust_env=False).json()
    assert kept["erased"] and not kept["answer"] and not kept["citations"]
    for known_at in (None, answer["moment"]["known_at"]):
        given = {"query": "zanzibarquux", "collection": "first", **({"known_at": known_at} if known_at else {})}
        assert all(hit["doc_id"] != "secret-one" for hit in stack.post("/v1/search", given).json()["hits"])
    assert stack.almanac("erase", "secret-one", "-c", "first", "--yes", check=False).returncode == 1


@pytest.mark.parametrize("seconds", [0.0, 0.15, 0.6])
def test_an_erasure_whose_worker_is_killed_is_finished_by_the_next(stack, tmp_path, seconds):
    secret, collection = f"secret-{seconds}", f"killed-{seconds}"
    passages, _ = taken_in(stack, tmp_path, secret, collection)
    job = stack.json("erase", secret, "--collection", collection, "--yes", "--no-wait")["job"]["id"]
    time.sleep(seconds)
    old = stack.kill("worker")
    done = eventually(lambda: (it := stack.json("jobs", "show", job))["state"] in ("done", "failed") and it, 120)
    assert done["state"] == "done", done
    stack.restarted("worker", old)
    after = found(stack.home, [*MARKERS, *passages])
    assert after == {marker: set() for marker in after}


def test_a_deleted_index_is_rebuilt_without_encoding(stack, tmp_path):
    path = tmp_path / "rebuilt.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows("plain")))
    stack.json("ingest", str(path), "--collection", "rebuilt", "--wait")
    asked = [{"query": query, "collection": "rebuilt"} for query in ("keeper of the lighthouse", "grain", "harbour 3")]
    before = [stack.post("/v1/search", one).json()["hits"] for one in asked]
    vectors = sorted(path.name for path in (stack.home / "vectors").iterdir())
    old = stack.kill("encoder")
    shutil.rmtree(stack.home / "index")
    assert stack.json("reindex", "rebuild")["job"]["state"] == "done"
    stack.restarted("encoder", old)
    assert sorted(path.name for path in (stack.home / "vectors").iterdir()) == vectors
    after = [stack.post("/v1/search", one).json()["hits"] for one in asked]
    assert [hit["passage_id"] for hits in after for hit in hits] == [
        hit["passage_id"] for hits in before for hit in hits
    ]
    assert {path.name for path in (stack.home / "index").iterdir()} == {"g1"}
    old = stack.kill("retriever")
    stack.restarted("retriever", old)
    again = [stack.post("/v1/search", one).json() for one in asked]
    assert [found.get("hits", found) for found in again] == after
    with sqlite3.connect(stack.home / "catalog.db") as database:
        readers = [row[0] for row in database.execute("SELECT DISTINCT reader FROM watermarks")]
    database.close()
    assert "index:g1.rebuild" not in readers
