"""`almanac erase` and `almanac reindex`: what is removed for good, and what is built anew."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from services.admin.context import AsJson, Collection, connect

reindex = typer.Typer(help="The index and the feature views.", no_args_is_help=True)

_Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end.")]


def erase(
    ctx: typer.Context,
    doc_id: Annotated[str, typer.Argument(metavar="DOC", help="Its id.")],
    collection: Collection = "default",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: _Wait = True,
    as_json: AsJson = False,
) -> None:
    """Remove a document everywhere, at every moment, for good."""
    if not yes:
        typer.confirm(f"Erase {doc_id!r} from {collection!r}, with every answer that quotes it, for good?", abort=True)
    _send(ctx, f"/v1/documents/{quote(doc_id)}/erase?{urlencode({'collection': collection})}", wait, as_json)


@reindex.command()
def rebuild(ctx: typer.Context, wait: _Wait = True, as_json: AsJson = False) -> None:
    """Build index and features anew from catalog and vector files alone, without encoding."""
    _send(ctx, "/v1/admin/reindex/rebuild", wait, as_json)


def _send(ctx: typer.Context, path: str, wait: bool, as_json: bool) -> None:
    from services.admin import jobs
    from services.admin.render import print_json

    gateway = connect(ctx)
    found = gateway.post(path, {})
    if wait:
        [found["job"]] = jobs.wait(gateway, [found["job"]], quiet=as_json)
    if as_json:
        print_json(found)
    else:
        job = found["job"]
        typer.echo(job["state"] if wait else f"queued; follow with: almanac jobs show {job['id']} --follow")
    if wait:
        jobs.require_done([found["job"]])
