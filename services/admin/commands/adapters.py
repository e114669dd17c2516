"""`almanac adapters`: the generator's LoRA adapters that this tenant may name."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from services.admin.context import AsJson, connect

app = typer.Typer(help="LoRA adapters of the generator.", no_args_is_help=True)

_PATH = "/v1/admin/adapters"
_Name = Annotated[str, typer.Argument(metavar="ADAPTER", help="Its name in the generator's settings.")]


@app.command(name="list")
def list_adapters(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the adapters that may be named, and which of them the generator holds."""
    from services.admin.render import print_json, table

    found = connect(ctx).get(_PATH)
    if as_json:
        print_json(found)
        return
    rows = [
        [
            one["name"],
            *("yes" if one[what] else "no" for what in ("loaded", "pinned")),
            *(one[what] for what in ("size_bytes", "loads", "cold_starts")),
            round(one["resident_seconds"]),
        ]
        for one in found["adapters"]
    ]
    table(("adapter", "loaded", "pinned", "bytes", "loads", "cold starts", "seconds in memory"), rows)


@app.command()
def load(
    ctx: typer.Context,
    name: _Name,
    pin: Annotated[bool, typer.Option("--pin", help="Keep its place on the device until it is unloaded.")] = False,
    as_json: AsJson = False,
) -> None:
    """Load an adapter before it is asked for."""
    from services.admin.render import print_json

    found = connect(ctx).put(f"{_PATH}/{quote(name, safe='')}", {"pinned": pin})
    if as_json:
        print_json(found)
    else:
        typer.echo(f"adapter {name} is {'pinned' if found['pinned'] else 'loaded'}")


@app.command()
def unload(ctx: typer.Context, name: _Name, as_json: AsJson = False) -> None:
    """Free an adapter's memory, pinned or not."""
    from services.admin.render import print_json

    found = connect(ctx).delete(f"{_PATH}/{quote(name, safe='')}")
    if as_json:
        print_json(found)
    else:
        typer.echo(f"adapter {name} is unloaded")
