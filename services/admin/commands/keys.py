"""`almanac keys`, `tenants`, `audit` and `usage`: who may use the gateway, and what they did."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.admin.context import AsJson, connect, settings

app = typer.Typer(help="Keys of the gateway.", no_args_is_help=True)
tenants_app = typer.Typer(help="Tenants.", no_args_is_help=True)

_Key = Annotated[str, typer.Argument(metavar="KEY", help="Its id: the part after `alm_`.")]
_Tenant = Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant.")]
_USED = (
    "day",
    "tenant",
    "answers",
    "failed",
    "prompt_tokens",
    "completion_tokens",
    "encoder_texts",
    "engine_ms",
    "cached",
    "saved_tokens",
    "saved_texts",
    "saved_ms",
    "searches",
)
_COLUMNS = ("id", "tenant", "user", "name", "scopes", "valid", "expires", "last used")


@app.command()
def create(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Whose; made by its first key.")] = None,
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", "-s", help="ask, ingest or admin; again for more.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What it is for.")] = "",
    user: Annotated[str, typer.Option("--user", help="Whose profile its questions use.")] = "",
    expires: Annotated[str | None, typer.Option("--expires", help="Until when it is valid (a date).")] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Write to the catalog itself, before a gateway runs.")
    ] = False,
    first: Annotated[
        bool, typer.Option("--first", help="With --direct: only if nobody has made one yet; else do nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, this once. From the first one on, every request needs a key."""
    if first and not direct:
        raise typer.BadParameter("it goes with --direct", param_hint="--first")
    body = {"tenant": tenant, "scopes": scopes or ["ask"], "name": name, "user": user, "expires_at": expires}
    made = _create_directly(body, first) if direct else connect(ctx).post("/v1/admin/keys", body)
    if made is None:
        typer.echo("there is a key already", err=True)
    else:
        _show(made, as_json)


@app.command(name="list")
def list_keys(ctx: typer.Context, tenant: _Tenant = None, as_json: AsJson = False) -> None:
    """Show the keys, without their secrets."""
    from services.admin.render import day, print_json, table

    found = connect(ctx).get("/v1/admin/keys", tenant=tenant)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(key[name] for name in ("id", "tenant", "user", "name")),
            " ".join(key["scopes"]),
            "yes" if key["valid"] else "no",
            day(key["expires_at"]) or "-",
            day(key["used_at"]) or "-",
        )
        for key in found["keys"]
    ]
    table(_COLUMNS, rows)


@app.command()
def revoke(ctx: typer.Context, key: _Key, as_json: AsJson = False) -> None:
    """End a key, on every gateway within two seconds."""
    from services.admin.render import print_json

    found = connect(ctx).delete(f"/v1/admin/keys/{key}")
    if as_json:
        print_json(found)
    else:
        typer.echo(f"key {found['id']} is revoked")


@app.command()
def rotate(
    ctx: typer.Context,
    key: _Key,
    grace: Annotated[int, typer.Option("--grace", min=0, help="Seconds for which the old one stays valid.")] = 3_600,
    as_json: AsJson = False,
) -> None:
    """Make a key like the given one, which stays valid for a while, and show it, this once."""
    _show(connect(ctx).post(f"/v1/admin/keys/{key}/rotate", {"grace_seconds": grace}), as_json)


@app.command()
def link() -> None:
    """Print the page's address with this home's key in it, for the browser of whoever runs the stack."""
    from services.admin.context import gateway_key, gateway_url
    from services.admin.failures import Failed

    own = settings()
    url = gateway_url(own)
    key = gateway_key(own, url)
    if not key:
        raise Failed("there is no key to open the page with; start the stack with `almanac up`, or set ALMANAC_API_KEY")
    typer.echo(f"{url}/#key={key}")


@tenants_app.command(name="list")
def list_tenants(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show every tenant that has a key or a collection."""
    from services.admin.render import print_json, table

    found = connect(ctx).get("/v1/admin/tenants")
    if as_json:
        print_json(found)
    else:
        table(("tenant",), [(tenant["name"],) for tenant in found["tenants"]])


def audit(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 50,
    tenant: _Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show what administrators did."""
    from services.admin.render import print_json, table

    found = connect(ctx).get("/v1/admin/audit", limit=limit, tenant=tenant)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(entry[name] for name in ("created_at", "tenant", "key_id", "action", "subject")),
            entry["detail"].get("outcome", "cut off"),
        )
        for entry in found["entries"]
    ]
    table(("when", "tenant", "key", "action", "subject", "outcome"), rows)


def usage(
    ctx: typer.Context,
    days: Annotated[int, typer.Option("--days", min=1, help="How many days, with today.")] = 30,
    tenant: _Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show answers, what they cost and what kept ones saved, and searches, by tenant and day (UTC)."""
    from services.admin.render import print_json, table

    found = connect(ctx).get("/v1/admin/usage", days=days, tenant=tenant)
    if as_json:
        print_json(found)
        return
    table([column.replace("_", " ") for column in _USED], [[row[name] for name in _USED] for row in found["usage"]])


def _show(made: dict[str, Any], as_json: bool) -> None:
    from services.admin.render import print_json

    if as_json:
        print_json(made)
        return
    typer.echo(made["key"])
    typer.echo(f"for {made['tenant']}, scopes {' '.join(made['scopes'])}; it is not shown again.", err=True)
    typer.echo("Every request needs a key now; `almanac keys link` opens the page with this home's.", err=True)


def _create_directly(body: dict[str, Any], first: bool) -> dict[str, Any] | None:
    """None where the first key is wanted and there is one."""
    from services.admin.failures import Failed
    from services.admin.local_key import SCOPES, opened
    from services.catalog import keys
    from services.common.moment import parse_instant

    own = settings()
    if wrong := set(body["scopes"]) - set(SCOPES):
        raise Failed(f"there is no scope {min(wrong)!r}; there are {', '.join(SCOPES)}")
    expires = None if body["expires_at"] is None else parse_instant(body["expires_at"], "expires")
    tenant = body["tenant"] or own.tenant
    with opened(own) as tx:
        if first and keys.any_made(tx):
            return None
        made, text = keys.create(tx, tenant, body["scopes"], user=body["user"], name=body["name"], expires_at=expires)
    return {"key": text, "id": made.key_id, "tenant": made.tenant, "scopes": list(made.scopes)}
