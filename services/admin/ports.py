"""Whether the gateway's port is free, asked before anything is started."""

from __future__ import annotations

import socket

from services.admin.failures import Failed


def require_free(host: str, port: int) -> None:
    """Raises Failed, naming who listens there where that can be found out."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Failed(
                f"port {port} on {host} cannot be used{_listener(port)}: {error.strerror or error}; "
                f"choose another with `almanac up --port {port % 65535 + 1}`, or stop what listens there"
            ) from error


def _listener(port: int) -> str:
    try:
        import psutil

        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr[1] == port and found.pid:
                return f" (pid {found.pid}, {psutil.Process(found.pid).name()})"
    except Exception:  # naming the listener is a courtesy; the refusal stands without it
        return ""
    return ""
