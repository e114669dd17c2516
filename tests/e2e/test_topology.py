"""The stack of docker-compose.yml run for real, without Docker: the images' commands, each in a network of its own.

Qdrant, Prometheus and Grafana are left out (tests/topology/stack.py says so): the retriever runs its embedded engine.
"""

import pytest

from tests.topology.stack import running

pytestmark = [pytest.mark.timeout(900)]
DOCUMENTS = [
    {"id": "mill", "title": "The mill", "text": "The mill on Quay Road was built in 1871 by Ada Thorn."},
    {"id": "bridge", "title": "The bridge", "text": "The bridge over the Wend is 212 metres long."},
]
QUESTION, EXPECTED = "Who built the mill on Quay Road?", "Ada Thorn"


@pytest.fixture(scope="module")
def stack():
    with running() as stack:
        job = stack.ingest("town", DOCUMENTS)
        assert (job["state"], job["counts"]["documents"]) == ("done", 2), job
        yield stack


def answered(stack):
    answer = stack.ask(QUESTION, "town")
    assert EXPECTED in answer["answer"], answer
    assert answer["citations"][0]["doc_id"] == "mill"
    return answer


def test_it_answers_with_citations(stack):
    assert answered(stack)["degraded"] == []
