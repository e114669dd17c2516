"""Real processes of a real stack killed with SIGKILL: what is answered meanwhile, and what comes back."""

import json
import time

import pytest

from tests.support import eventually, ingest_examples, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUESTION = {"question": "How is the kilogram defined?", "collection": "almanac", "as_of": "2020-06-01"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with running_stack(tmp_path_factory.mktemp("chaos") / "home") as running:
        ingest_examples(running)
        yield running


def test_without_the_generator_the_evidence_is_quoted_and_it_comes_back(stack):
    old = stack.kill("generator")
    answer = stack.ask(**QUESTION)
    assert answer["degraded"] == ["generator"] and answer["grounding"] == "quoted"
    assert answer["citations"] and "Planck" in answer["answer"]
    stack.restarted("generator", old)
    eventually(lambda: stack.ask(**QUESTION)["degraded"] == [], 20)


def test_without_the_broker_answers_still_come_and_say_so(stack):
    old = stack.kill("valkey")
    answer = stack.ask(**QUESTION)
    assert "Planck" in answer["answer"]
    assert answer["degraded"] == ["broker"]
    stack.restarted("valkey", old)
    eventually(lambda: stack.ask(**QUESTION)["degraded"] == [], 30)


@pytest.mark.parametrize("node", ["encoder", "features"])
def test_without_a_node_the_answer_comes_and_names_it(stack, node):
    old = stack.kill(node)
    answer = stack.ask(**QUESTION)
    assert node in answer["degraded"] or stack.processes()[node]["pid"] != old
    assert "kilogram" in answer["answer"] and answer["citations"]
    stack.restarted(node, old)
    eventually(lambda: stack.ask(**QUESTION)["degraded"] == [], 20)


def test_ingestion_goes_on_after_its_worker_and_nodes_were_killed(stack, tmp_path):
    rows = [
        {"id": f"d{n}", "title": f"Entry {n}", "text": f"# Entry {n}\n\nThe value of entry {n} is {n * 7}. " * 12}
        for n in range(150)
    ]
    (tmp_path / "many.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    job = stack.json("ingest", str(tmp_path / "many.jsonl"), "--collection", "many")["jobs"][0]["id"]
    for name in ("worker", "retriever", "encoder"):
        time.sleep(2.0)
        stack.kill(name)
    done = eventually(lambda: (found := stack.json("jobs", "show", job))["state"] in ("done", "failed") and found, 240)
    assert done["state"] == "done" and done["counts"]["failed"] == 0, done
    [collection] = [one for one in stack.json("collections")["collections"] if one["name"] == "many"]
    assert collection["documents"] == 150
    found = stack.json("search", "value of entry 149", "--collection", "many", "--limit", "100")
    assert len({hit["passage_id"] for hit in found["hits"]}) == len(found["hits"])
    assert found["hits"][0]["doc_id"] == "d149"
