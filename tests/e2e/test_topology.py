"""The stack of docker-compose.yml run for real, without Docker: the images' commands, each in a network of its own.

Qdrant, Prometheus and Grafana are left out (tests/topology/stack.py says so): the retriever runs its embedded engine.
"""

import socket
import ssl

import grpc
import httpx
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import eventually
from tests.topology.network import namespaces_allowed
from tests.topology.stack import running

pytestmark = [pytest.mark.timeout(900)]
DOCUMENTS = [
    {"id": "mill", "title": "The mill", "text": "The mill on Quay Road was built in 1871 by Ada Thorn."},
    {"id": "bridge", "title": "The bridge", "text": "The bridge over the Wend is 212 metres long."},
]
QUESTION, EXPECTED = "Who built the mill on Quay Road?", "Ada Thorn"
NODES = ("encoder", "retriever", "features", "generator")
CERTIFICATES = ("certificate", "key", "authority")


@pytest.fixture(scope="module")
def stack():
    with running() as stack:
        ingested(stack)
        yield stack


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def under_tls(tmp_path_factory, authority):
    if not namespaces_allowed():
        pytest.skip("certificates hold names, and without network namespaces there are only addresses")
    directory = tmp_path_factory.mktemp("certificates")
    services = (*NODES, "gateway", "orchestrator")
    with running({name: certificates(directory / name, authority, name) for name in services}) as stack:
        ingested(stack)
        yield stack


def certificates(place, authority, name):
    """The settings of a service that has its own certificate."""
    place.mkdir()
    issued = authority.issue_cert(name)
    issued.private_key_pem.write_to_path(place / "key.pem")
    (place / "certificate.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(place / "authority.pem")
    return {f"ALMANAC_TLS_{one.upper()}": str(place / f"{one}.pem") for one in CERTIFICATES}


def ingested(stack):
    job = stack.ingest("town", DOCUMENTS)
    assert (job["state"], job["counts"]["documents"]) == ("done", len(DOCUMENTS)), job


def answered(stack):
    answer = stack.ask(QUESTION, "town")
    assert EXPECTED in answer["answer"], answer
    assert answer["citations"][0]["doc_id"] == "mill"
    return answer


def whole(stack):
    return answered(stack)["degraded"] == []


def test_it_answers_with_citations_and_nothing_missing(stack):
    assert whole(stack)


def test_every_container_has_a_network_of_its_own_and_what_is_not_named_cannot_be_reached(stack):
    spaces = [(one.place.name, one.place.address) for all_of in stack.containers.values() for one in all_of]
    assert len(set(spaces)) == len({address for _, address in spaces}) == len(spaces) >= 11


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


def test_under_tls_it_answers_with_citations_and_nothing_missing(under_tls):
    assert whole(under_tls)


@pytest.mark.parametrize("name", NODES)
def test_under_tls_plain_text_and_strangers_are_refused(under_tls, authority, name):
    address = f"{under_tls.containers[name][0].place.address}:{port(under_tls, name)}"
    stranger = trustme.CA()
    mine, theirs = authority.issue_cert("gateway"), stranger.issue_cert("gateway")
    assert serves(grpc.secure_channel(address, credentials(authority, mine), named(name)))
    for line in (
        grpc.insecure_channel(address),
        grpc.secure_channel(address, credentials(authority, theirs), named(name)),
        grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.cert_pem.bytes()), named(name)),
        grpc.secure_channel(address, credentials(authority, mine), named("somebody")),
    ):
        assert not serves(line)


def port(stack, name):
    return stack.containers[name][0].environment()[f"ALMANAC_{name.upper()}_ADDRESS"].rpartition(":")[2]


def named(name):
    return (("grpc.ssl_target_name_override", name),)


def credentials(authority, issued):
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes(), issued.private_key_pem.bytes(), chain)


def serves(line):
    with line:
        try:
            found = health_pb2_grpc.HealthStub(line).Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.RpcError:
            return False
        return found.status == health_pb2.HealthCheckResponse.SERVING


def test_under_tls_a_killed_node_is_reached_again(under_tls):
    container = under_tls.containers["retriever"][0]
    container.kill()
    answered(under_tls)
    eventually(lambda: whole(under_tls), 60)


def test_under_tls_the_wire_shows_a_certificate_of_the_nodes_name(under_tls):
    where = (under_tls.containers["encoder"][0].place.address, int(port(under_tls, "encoder")))
    with socket.create_connection(where, 10) as line:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(line, server_hostname="encoder") as shown:
            assert b"encoder" in shown.getpeercert(binary_form=True)
