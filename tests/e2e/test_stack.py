"""The main job through a real stack: every process, the command line, HTTP, and the unchanged OpenAI client."""

import json

import httpx
import openai
import pytest

from tests.support import EXAMPLES, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WHERE = {"collection": "almanac"}


@pytest.mark.parametrize(
    ("question", "moment", "expected"),
    [
        ("What is the tallest building in the world?", {"as_of": "2000-06-01"}, "Petronas"),
        ("What is the tallest building in the world?", {"as_of": "2007-06-01"}, "Taipei 101"),
        ("What is the tallest building in the world?", {"as_of": "2020-06-01"}, "Burj Khalifa"),
        ("Is Pluto a planet?", {"as_of": "2000-06-01"}, "ninth"),
        ("Is Pluto a planet?", {"as_of": "2010-06-01"}, "dwarf planet"),
        (
            "What is the address of the Harbour Street Library?",
            {"as_of": "2018-12-01", "known_at": "2020-01-01"},
            "12 Harbour Street",
        ),
        (
            "What is the address of the Harbour Street Library?",
            {"as_of": "2018-12-01", "known_at": "2022-01-01"},
            "40 Quay Road",
        ),
    ],
)
def test_an_answer_knows_its_date(stack, question, moment, expected):
    answer = stack.ask(question, **WHERE, **moment)
    assert expected in answer["answer"] + " ".join(citation["quote"] for citation in answer["citations"])
    assert answer["degraded"] == [] and answer["citations"]
    for citation in answer["citations"]:
        assert (citation["valid_from"] or "") <= answer["moment"]["as_of"]
        assert answer["moment"]["as_of"] < (citation["valid_to"] or "9999")
        assert (citation["recorded_from"] or "") <= answer["moment"]["known_at"]


def test_what_nothing_answers_is_not_answered(stack):
    answer = stack.ask("What is the melting point of tungsten?", **WHERE)
    assert answer["grounding"] == "abstained"


def test_an_answer_is_kept(stack):
    answer = stack.ask("Is Pluto a planet?", **WHERE, as_of="2010-06-01")
    assert httpx.get(f"{stack.url}/v1/answers/{answer['id']}", trust_env=False).json() == answer


def test_the_openai_client_gets_a_whole_answer_too(stack):
    asked = [{"role": "user", "content": "Is Pluto a planet?"}]
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="local") as client:
        found = client.chat.completions.create(model="almanac", messages=asked, extra_body=WHERE)
        models = [model.id for model in client.models.list().data]
    assert "planet" in found.choices[0].message.content
    assert found.usage.total_tokens >= 0
    assert "almanac" in models


def test_search_shows_where_each_passage_stands(stack):
    found = stack.json("search", "opening hours of the library", "--collection", "almanac", "--as-of", "2010-06-01")
    assert found["hits"][0]["doc_id"] == "harbour-street-library"
    assert all(hit["start"] < hit["end"] for hit in found["hits"])


def test_a_broken_line_is_named_and_the_rest_goes_in(stack, tmp_path):
    lines = [
        '{"id": "good-1", "title": "One", "text": "The mill is closed.", "valid_from": "2001-01-01"}',
        '{"id": "broken"',
        '{"id": "late", "text": "x", "valid_from": "2002-01-01", "valid_to": "2001-01-01"}',
        '{"id": "good-1", "title": "One", "text": "Another text.", "valid_from": "2001-01-01"}',
        '{"id": "good-2", "title": "Two", "text": "The mill is open.", "valid_from": "tomorrow"}',
        '{"id": "good-3", "title": "Three", "text": "The bridge is open.", "valid_from": "2003-01-01"}',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    counts = stack.json("ingest", str(tmp_path / "rows.jsonl"), "--collection", "rows", "--wait")
    assert (counts["documents"], counts["versions"], counts["failed"]) == (2, 2, 4)
    [job] = [job for job in stack.json("jobs", "list")["jobs"] if job["collection"] == "rows"]
    reasons = {failure["line"]: failure["reason"] for failure in job["failures"]}
    assert set(reasons) == {2, 3, 4, 5}
    for line, said in ((2, "JSON"), (3, "valid_to"), (4, "duplicate"), (5, "valid_from")):
        assert said in reasons[line]
    assert "open" in stack.ask("Is the bridge open?", collection="rows")["answer"]


def test_the_same_again_encodes_nothing(stack, tmp_path):
    paths = [str(path) for path in sorted((EXAMPLES / "documents").glob("*.md"))[:6]]
    first = stack.json("ingest", *paths, "--collection", "twice", "--wait")
    second = stack.json("ingest", *paths, "--collection", "twice", "--wait")
    assert first["encoded"] > 0 and first["failed"] == 0
    assert (second["encoded"], second["passages"], second["skipped"]) == (0, 0, len(paths))


def test_a_new_record_is_seen_as_soon_as_its_job_is_done(stack, tmp_path):
    for number, colour in enumerate(("green", "red"), start=1):
        row = {"id": "door", "title": "Door", "text": f"The door is {colour}.", "valid_from": f"200{number}-01-01"}
        (tmp_path / "door.jsonl").write_text(json.dumps(row))
        stack.json("ingest", str(tmp_path / "door.jsonl"), "--collection", "door", "--wait")
        assert colour in stack.ask("What colour is the door?", collection="door")["answer"]
    assert "green" in stack.ask("What colour is the door?", collection="door", as_of="2001-06-01")["answer"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"question": "Who?", "collection": "nowhere"}, 404, "nowhere"),
        ({"question": "  ", **WHERE}, 400, "question"),
        ({"question": "x" * 5000, **WHERE}, 400, "question"),
        ({"question": "Who?", **WHERE, "as_of": "soon"}, 400, "as_of"),
        ({"question": "Who?", **WHERE, "known_at": "2999-01-01"}, 400, "future"),
        ({"question": "Who?", **WHERE, "tenant": "other"}, 400, "tenant"),
    ],
)
def test_bad_questions_get_a_clear_error(stack, body, status, said):
    response = stack.post("/v1/answers", body)
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    assert said in response.json()["detail"].lower() or said in response.json()["detail"]


def test_ready_and_status_tell_of_every_process(stack):
    assert httpx.get(f"{stack.url}/readyz", trust_env=False).status_code == 200
    found = stack.json("status")
    names = {"valkey", "gateway", "worker", "encoder", "retriever", "features", "generator"}
    assert set(found["processes"]) == names
    eventually(lambda: stack.json("status")["ready"], 10)


def test_metrics_are_there(stack):
    text = httpx.get(f"{stack.url}/metrics", trust_env=False).text
    assert "almanac_" in text
