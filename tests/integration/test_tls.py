"""Mutual TLS between nodes: who may connect, and certificates that are replaced while calls go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from services.common.clients.encoder import EncoderClient
from services.common.errors import AlmanacError, InvalidRequest
from services.common.nodes.encoder import TextKind
from services.common.rpc import tls
from services.common.rpc.client import channel, healthy
from services.common.rpc.server import start
from services.common.settings import Settings
from services.encoder.server import EncoderServicer
from services.protos.encoder_pb2_grpc import add_EncoderServicer_to_server
from tests.fakes.encoder import FakeEncoder
from tests.support import free_port

NAME = "encoder"


def write(place: Path, authority: trustme.CA, name: str = NAME) -> Settings:
    """A certificate of the authority, and the settings that name its files."""
    place.mkdir(exist_ok=True)
    issued = authority.issue_cert(name)
    issued.private_key_pem.write_to_path(place / "key.pem")
    (place / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(place / "authority.pem")
    return Settings(
        tls_certificate=place / "chain.pem", tls_key=place / "key.pem", tls_authority=place / "authority.pem"
    )


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def plain_again() -> Iterator[None]:
    yield
    tls.configure(Settings())


@pytest.fixture
async def address(tmp_path: Path, authority: trustme.CA) -> AsyncIterator[str]:
    """An encoder under TLS; what is configured afterwards is the client's."""
    tls.configure(write(tmp_path / "node", authority))
    where = f"127.0.0.1:{free_port()}"
    server = await start(
        where,
        "almanac.encoder.v1.Encoder",
        lambda one: add_EncoderServicer_to_server(EncoderServicer(FakeEncoder()), one),
    )
    yield where
    await server.stop(None)


OPTIONS = (("grpc.ssl_target_name_override", NAME),)


async def encodes(address: str) -> bool:
    async with channel(address, *OPTIONS) as line:
        try:
            return len(await EncoderClient(line).encode("all-MiniLM-L6-v2", TextKind.QUERY, ["a"])) == 1
        except AlmanacError:
            return False


async def test_both_sides_know_each_other(tmp_path: Path, authority: trustme.CA, address: str) -> None:
    tls.configure(write(tmp_path / "client", authority, "gateway"))
    assert await encodes(address)
    assert await healthy(address, 1.0, *OPTIONS)


async def test_nobody_else_gets_in(tmp_path: Path, address: str) -> None:
    tls.configure(Settings())
    assert not await encodes(address)
    tls.configure(write(tmp_path / "stranger", trustme.CA(), "gateway"))
    assert not await encodes(address)


async def test_a_node_of_another_name_is_not_believed(tmp_path: Path, authority: trustme.CA, address: str) -> None:
    tls.configure(write(tmp_path / "client", authority, "gateway"))
    async with channel(address, ("grpc.ssl_target_name_override", "generator")) as line:
        with pytest.raises(AlmanacError):
            await EncoderClient(line).encode("all-MiniLM-L6-v2", TextKind.QUERY, ["a"])


async def test_replaced_files_are_taken_up_without_a_restart(
    tmp_path: Path, address: str, authority: trustme.CA
) -> None:
    tls.configure(write(tmp_path / "client", authority, "gateway"))
    async with channel(address, *OPTIONS) as line:
        client = EncoderClient(line)
        assert len(await client.encode("all-MiniLM-L6-v2", TextKind.QUERY, ["a"])) == 1
        successor = trustme.CA()
        write(tmp_path / "node", successor)
        write(tmp_path / "client", successor, "gateway")
        assert len(await client.encode("all-MiniLM-L6-v2", TextKind.QUERY, ["b"])) == 1
    tls.configure(write(tmp_path / "old", authority, "gateway"))
    assert not await encodes(address)


async def test_unix_sockets_stay_plain(tmp_path: Path, authority: trustme.CA) -> None:
    tls.configure(write(tmp_path / "node", authority))
    where = f"unix:{tmp_path}/e.sock"
    server = await start(where, "almanac.encoder.v1.Encoder", lambda one: None)
    assert await healthy(where)
    await server.stop(None)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, authority: trustme.CA) -> None:
    settings = write(tmp_path / "node", authority)
    (tmp_path / "node" / "key.pem").unlink()
    with pytest.raises(InvalidRequest, match=r"key\.pem"):
        tls.configure(settings)


def test_half_a_set_of_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="together"):
        tls.configure(Settings(tls_key=tmp_path / "key.pem"))
