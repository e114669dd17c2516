"""The stack of docker-compose.yml run for real, without Docker: the images' commands, each in a network of its own.

Qdrant, Prometheus and Grafana are left out (tests/topology/stack.py says so): the retriever runs its embedded engine.
"""

from pathlib import Path

import httpx
import pytest

from tests.support import eventually
from tests.topology.network import namespaces_allowed
from tests.topology.stack import running
from tests.topology.town import NODES, QUESTION, answered, ingested, whole

pytestmark = [pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack():
    with running() as stack:
        ingested(stack)
        yield stack


def test_it_answers_with_citations_and_nothing_missing(stack):
    assert whole(stack)


@pytest.mark.skipif(not namespaces_allowed(), reason="network namespaces are not allowed here: all are on loopback")
def test_every_container_has_a_network_of_its_own(stack):
    running = [one.pid for all_of in stack.containers.values() for one in all_of if one.running]
    networks = {Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", *running)}
    assert len(networks) == len(running) + 1 >= 9


def test_nobody_gets_in_without_the_key(stack):
    said = httpx.post(f"{stack.url}/v1/answers", json={"question": QUESTION}, trust_env=False)
    assert said.status_code == 401


def test_uploads_and_vectors_are_shared_as_compose_says(stack):
    gateway, worker = (stack.containers[name][0].environment() for name in ("gateway", "orchestrator"))
    assert gateway["ALMANAC_UPLOADS_DIR"] == worker["ALMANAC_UPLOADS_DIR"]
    assert gateway["ALMANAC_HOME"] != worker["ALMANAC_HOME"]
    assert any((stack.directory / "volumes" / "vectors").rglob("*.parquet"))
    assert any((stack.directory / "volumes" / "retriever").rglob("*"))


@pytest.mark.parametrize("name", [*NODES, "orchestrator"])
def test_what_is_killed_is_begun_again_and_answers_go_on(stack, name):
    container = stack.containers[name][0]
    begun = container.begun
    container.kill()
    answered(stack)
    eventually(lambda: container.begun > begun and container.healthy(), 120, f"{name} did not come back")
    eventually(lambda: whole(stack), 60)


def test_three_workers_and_two_encoders_all_have_work(stack):
    stack.scale("encoder", 2)
    stack.scale("orchestrator", 3)

    def asked():
        answered(stack)
        return all(work(stack))

    eventually(asked, 120, f"work: {work(stack)}")
    assert len(work(stack)) == 5
    assert whole(stack)


def work(stack):
    """Answers that each worker, and calls that each encoder has had since its start."""
    encode = {"method": "almanac.encoder.v1.Encoder/Encode", "code": "OK"}
    answers = [
        stack.figure(one, "almanac_step_seconds_count", step="evidence") for one in stack.containers["orchestrator"]
    ]
    return answers + [stack.figure(one, "almanac_grpc_calls_total", **encode) for one in stack.containers["encoder"]]
