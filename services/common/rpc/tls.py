"""Mutual TLS between nodes, from files that may be replaced at any time.

Both sides show a certificate of the same authority; a node's names it as it is addressed (`encoder` for
`dns:///encoder:8431`). New connections use what is in the files then; those at hand go on. Unix sockets stay plain:
their directory is their owner's alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from services.common.errors import InvalidRequest
from services.common.rpc.line import Line
from services.common.settings import Settings

_DRAIN_SECONDS = 60.0
"""How long calls on a connection with replaced certificates may go on."""

Options = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate chain, its key, and the authority that both sides' certificates must come from; PEM files."""

    certificate: Path
    key: Path
    authority: Path

    def version(self) -> tuple[int, ...]:
        """Other numbers once a file has been replaced."""
        return tuple(file.stat().st_mtime_ns for file in (self.certificate, self.key, self.authority))

    def server(self) -> grpc.ServerCredentials:
        """Credentials that follow the files and ask for a client's certificate."""
        seen = self.version()

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal seen
            if (now := self.version()) == seen:
                return None
            seen = now
            return self._configuration()

        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            renewed,  # type: ignore[arg-type]  # None, for what has not changed, is left out of the stubs
            require_client_authentication=True,
        )

    def client(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            self.authority.read_bytes(), self.key.read_bytes(), self.certificate.read_bytes()
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], self.authority.read_bytes())


_held: Certificates | None = None


def configure(settings: Settings) -> None:
    """Use the certificates of the settings from now on. Raises InvalidRequest where only some are given or exist."""
    global _held
    given = (settings.tls_certificate, settings.tls_key, settings.tls_authority)
    if any(given) and not all(given):
        raise InvalidRequest("give ALMANAC_TLS_CERTIFICATE, ALMANAC_TLS_KEY and ALMANAC_TLS_AUTHORITY together")
    if missing := [str(file) for file in given if file and not file.is_file()]:
        raise InvalidRequest(f"there is no file {missing[0]}, which an ALMANAC_TLS_* setting names")
    certificate, key, authority = given
    _held = Certificates(certificate, key, authority) if certificate and key and authority else None


def add_port(server: grpc.aio.Server, address: str) -> None:
    """Listen there: under TLS where certificates are held, plain on unix sockets and without."""
    if _held is None or address.startswith("unix:"):
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, _held.server())


def connect(address: str, options: Options) -> Line:
    """A channel there, likewise."""
    if _held is None or address.startswith("unix:"):
        return Line(grpc.aio.insecure_channel(address, options=options))
    return _Following(_held, lambda held: grpc.aio.secure_channel(address, held.client(), options=options))


class _Following(Line):
    """A channel that is made anew once the certificates are, for calls from then on."""

    def __init__(self, certificates: Certificates, make: Callable[[Certificates], grpc.aio.Channel]) -> None:
        super().__init__(make(certificates))
        self._certificates, self._make = certificates, make
        self._version = certificates.version()
        self._closing: set[asyncio.Task[None]] = set()

    def at_hand(self) -> grpc.aio.Channel:
        if (version := self._certificates.version()) != self._version:
            closing = asyncio.ensure_future(self._channel.close(_DRAIN_SECONDS))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._version, self._channel = version, self._make(self._certificates)
        return self._channel

    async def close(self, grace: float | None = None) -> None:
        for closing in self._closing:
            closing.cancel()
        await super().close(grace)
