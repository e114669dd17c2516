"""A little town to ask about, in a stack of docker-compose.yml."""

from __future__ import annotations

from typing import Any

from tests.topology.stack import Stack

DOCUMENTS = [
    {"id": "mill", "title": "The mill", "text": "The mill on Quay Road was built in 1871 by Ada Thorn."},
    {"id": "bridge", "title": "The bridge", "text": "The bridge over the Wend is 212 metres long."},
]
QUESTION, EXPECTED = "Who built the mill on Quay Road?", "Ada Thorn"
NODES = ("encoder", "retriever", "features", "generator")


def ingested(stack: Stack) -> None:
    job = stack.ingest("town", DOCUMENTS)
    assert (job["state"], job["counts"]["documents"]) == ("done", len(DOCUMENTS)), job


def answered(stack: Stack) -> dict[str, Any]:
    """The right answer, with its citation."""
    answer = stack.ask(QUESTION, "town")
    assert EXPECTED in answer["answer"], answer
    assert answer["citations"][0]["doc_id"] == "mill"
    return answer


def whole(stack: Stack) -> bool:
    """Whether nothing is missing of it."""
    return bool(answered(stack)["degraded"] == [])
