"""Whether a request without a key may count as local: on a loopback address, from a program or this gateway's page.

A browser lets any site send requests to loopback, and a name that a site controls may lead there (DNS rebinding). So
the Host must name loopback itself, and whatever a browser says of where a request comes from must be this very origin.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

from services.common.errors import Forbidden

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def is_loopback(host: str) -> bool:
    """Whether the name or address is this machine's own, and nothing else's."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def require_local(request: Request) -> None:
    """Raises Forbidden, with the reason."""
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    if not is_loopback(_name(host)):
        raise Forbidden("without a key, the gateway must be addressed as 127.0.0.1 or localhost; or send a key")
    if origin is not None and origin != f"{request.url.scheme}://{host}":
        raise Forbidden("another site's page asks; without a key, only the gateway's own page may")
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Forbidden("another site's page asks; without a key, only the gateway's own page may")
    if any(name in request.headers for name in _FORWARDED):
        raise Forbidden("the request came through a proxy; send a key")


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
