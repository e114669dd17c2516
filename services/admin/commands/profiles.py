"""`almanac profiles`: what tenants and users are served with."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.admin.context import AsJson, KnownAt, connect

app = typer.Typer(help="Profiles of tenants and users: plan, locale, adapter, quotas.", no_args_is_help=True)

_PATH = "/v1/admin/profiles"
_User = Annotated[str, typer.Option("--user", help="Whose. Default: the tenant's own.")]
_Tenant = Annotated[str | None, typer.Option("--tenant", help="Default: the key's own.")]


@app.command(name="set")
def set_profile(
    ctx: typer.Context,
    user: _User = "",
    tenant: _Tenant = None,
    plan: Annotated[str, typer.Option("--plan", help="The plan.")] = "",
    locale: Annotated[str, typer.Option("--locale", help="A BCP 47 tag, such as de-AT.")] = "",
    adapter: Annotated[str, typer.Option("--adapter", help="The generator's adapter by default.")] = "",
    questions: Annotated[int, typer.Option("--questions-per-day", min=0, help="0: no quota.")] = 0,
    tokens: Annotated[int, typer.Option("--tokens-per-day", min=0, help="0: no quota.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Record a whole profile: what is not given is not set. What was set before stays on record."""
    body = {"tenant": tenant, "user": user, "plan": plan, "locale": locale, "adapter": adapter}
    quotas = {"questions_per_day": questions, "tokens_per_day": tokens}
    _print(connect(ctx).post(_PATH, {**body, **quotas}), as_json)


@app.command()
def show(
    ctx: typer.Context,
    user: _User = "",
    tenant: _Tenant = None,
    known_at: KnownAt = None,
    as_json: AsJson = False,
) -> None:
    """Show what a question would be served with: the user's profile over the tenant's."""
    _print(connect(ctx).get(_PATH, tenant=tenant, user=user or None, known_at=known_at), as_json)


def _print(found: dict[str, Any], as_json: bool) -> None:
    from services.admin.render import print_json, table

    if as_json:
        print_json(found)
        return
    rows = [("tenant", found["tenant"]), ("user", found["user"]), *found["profile"].items()]
    table(("", ""), [(name, value or "–") for name, value in rows])
