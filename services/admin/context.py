"""What commands share: the settings, the gateway, and the options that occur again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.admin.client import Gateway
    from services.admin.settings import AdminSettings

Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def _instant(text: str | None) -> str | None:
    """Refuse what is no date while the command line is read; the text itself is what travels."""
    if text is not None:
        from services.common.errors import InvalidMoment
        from services.common.moment import parse_instant

        try:
            parse_instant(text)
        except InvalidMoment as error:
            raise typer.BadParameter(error.detail.removeprefix("instant: ")) from None
    return text


def instants(texts: list[str]) -> list[str]:
    """The same of several."""
    return [text for text in texts if _instant(text)]


AsOf = Annotated[str | None, typer.Option("--as-of", callback=_instant, help="What was true then (a date; now).")]
KnownAt = Annotated[
    str | None, typer.Option("--known-at", callback=_instant, help="What was on record then (a date; all there is).")
]
ValidFrom = Annotated[
    str | None, typer.Option("--valid-from", callback=_instant, help="Since when the documents are valid (a date).")
]
ValidTo = Annotated[
    str | None, typer.Option("--valid-to", callback=_instant, help="Until when the document is valid (a date; now).")
]


def settings() -> AdminSettings:
    """The settings, read now. Nonsense in the environment is wrong use."""
    from pydantic import ValidationError

    from services.admin.settings import AdminSettings

    try:
        return AdminSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise typer.BadParameter(f"ALMANAC_{name}: {first['msg']}") from None


def gateway_url(own: AdminSettings) -> str:
    """ALMANAC_URL; else ALMANAC_PORT if it is set; else the stack that runs in the home; else the default port."""
    from services.admin.state import Places, read_state

    if own.url:
        return own.url.rstrip("/")
    running = None if "port" in own.model_fields_set else read_state(Places(own.home))
    return running.url if running else own.url_at(own.port)


def gateway_key(own: AdminSettings, url: str) -> str:
    """ALMANAC_API_KEY; else the home's own key, which goes to nobody but the home's own running stack."""
    from contextlib import suppress

    from services.admin.state import Places, read_state

    if given := own.api_key.get_secret_value():
        return given
    places = Places(own.home)
    running = read_state(places)
    with suppress(OSError):
        return places.key.read_text().strip() if running is not None and running.url == url else ""
    return ""


def connect(ctx: typer.Context) -> Gateway:
    """The gateway; tests pass a transport as the context's object."""
    import httpx

    from services.admin.client import Gateway

    transport = ctx.find_root().obj
    own = settings()
    url = gateway_url(own)
    return Gateway(url, transport if isinstance(transport, httpx.BaseTransport) else None, gateway_key(own, url))
