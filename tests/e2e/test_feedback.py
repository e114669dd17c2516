"""Feedback given through the API changes a document's features soon, and no moment before it."""

import json

import pytest

from tests.support import eventually

pytestmark = pytest.mark.timeout(600)
HERE = "keepers"
QUESTION = "Who is the keeper of the northern lighthouse?"
DOCUMENTS = [
    {"id": "north", "title": "Northern lighthouse", "text": "The keeper of the northern lighthouse is Edda Moor."},
    {"id": "bread", "title": "Rye bread", "text": "The dough rises for three hours before it is baked."},
]
SECONDS = 60


def search(stack, **moment):
    response = stack.post("/v1/search", {"query": QUESTION, "collection": HERE, "explain": True, **moment})
    assert response.status_code == 200, response.text
    return response.json()


def helpful(found, document="north"):
    [hit] = [hit for hit in found["hits"] if hit["doc_id"] == document]
    [value] = [feature["value"] for feature in hit["features"] if feature["name"] == "helpful"]
    return value


def shown(found):
    """All that a moment shows, to the byte."""
    return json.dumps([found["moment"], found["hits"], found["degraded"]])


def test_feedback_changes_features_within_a_minute_at_moments_after_it_only(stack, tmp_path):
    path = tmp_path / "keepers.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in DOCUMENTS))
    assert stack.json("ingest", str(path), "--collection", HERE, "--wait")["failed"] == 0
    answer = stack.ask(QUESTION, collection=HERE)
    cited = {one["doc_id"] for one in answer["citations"] if f"[{one['n']}]" in answer["answer"]}
    assert cited == {"north"}, answer
    before = search(stack)
    assert helpful(before) == helpful(before, "bread") == 0 and before["degraded"] == []

    assert stack.json("feedback", answer["id"], "up") == {
        "answer_id": answer["id"],
        "helpful": True,
        "note": "",
        "changed": True,
    }
    eventually(lambda: helpful(search(stack)) > 0, SECONDS, "the feedback did not reach the features")
    liked = search(stack)
    assert helpful(liked, "bread") == 0
    assert stack.post(f"/v1/answers/{answer['id']}/feedback", {"helpful": False}).json()["changed"]
    eventually(lambda: helpful(search(stack)) < 0, SECONDS, "the second word did not take the first one's place")

    then, later = before["moment"], liked["moment"]
    assert shown(search(stack, **then)) == shown(before)
    assert shown(search(stack, **later)) == shown(liked)
    assert helpful(search(stack, as_of=then["as_of"])) == 0
    assert helpful(search(stack, known_at=then["known_at"])) == 0
    assert stack.post("/v1/answers/nothing/feedback", {"helpful": True}).status_code == 404
