"""The gateway process."""

from __future__ import annotations

import sys

import uvicorn

from services.catalog import keys
from services.catalog.engine import Database
from services.common.process import begin
from services.gateway.app import create_app
from services.gateway.connections import Connections
from services.gateway.draining import DrainingServer
from services.gateway.locality import is_loopback
from services.gateway.settings import GatewaySettings


def main() -> None:
    settings = GatewaySettings()
    begin("gateway", settings)
    require_key_beyond_loopback(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=_connections(settings).protocol(),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    DrainingServer(config, settings.drain_seconds, lambda: setattr(app.state, "draining", True)).run()


def _connections(settings: GatewaySettings) -> Connections:
    return Connections(settings.head_seconds, settings.head_bytes, settings.stalled_seconds, settings.connections)


def require_key_beyond_loopback(settings: GatewaySettings) -> None:
    """Refuse to be reached from elsewhere as long as nobody has made a key."""
    if is_loopback(settings.host):
        return
    catalog = Database(settings.catalog_url)
    try:
        with catalog.read() as tx:
            made = keys.any_made(tx)
    finally:
        catalog.close()
    if not made:
        sys.exit(
            f"the gateway does not listen on {settings.host!r}, which is more than loopback, before there is a key; "
            "make one with `almanac keys create --direct --scope admin`"
        )


if __name__ == "__main__":
    main()
