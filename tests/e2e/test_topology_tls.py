"""The stack of docker-compose.yml under mutual TLS between its nodes."""

import socket
import ssl

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import eventually
from tests.topology.network import namespaces_allowed
from tests.topology.stack import running
from tests.topology.town import NODES, answered, ingested, whole

pytestmark = [pytest.mark.timeout(900)]
CERTIFICATES = ("certificate", "key", "authority")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def stack(tmp_path_factory, authority):
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


def test_it_answers_with_citations_and_nothing_missing(stack):
    assert whole(stack)


@pytest.mark.parametrize("name", NODES)
def test_plain_text_and_strangers_are_refused(stack, authority, name):
    address = f"{stack.containers[name][0].place.address}:{port(stack, name)}"
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


def test_a_killed_node_is_reached_again(stack):
    container = stack.containers["retriever"][0]
    container.kill()
    answered(stack)
    eventually(lambda: whole(stack), 60)


def test_the_wire_shows_a_certificate_of_the_nodes_name(stack):
    where = (stack.containers["encoder"][0].place.address, int(port(stack, "encoder")))
    with socket.create_connection(where, 10) as line:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(line, server_hostname="encoder") as shown:
            assert b"encoder" in shown.getpeercert(binary_form=True)
