"""`almanac sync`: a folder and a collection kept in step."""

from __future__ import annotations

from typing import Annotated

import typer

from services.admin.context import AsJson, Collection, connect


def sync(
    ctx: typer.Context,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="The folder.")],
    collection: Collection = "default",
    name: Annotated[
        str | None, typer.Option("--name", help="What the folder is known as. Default: made from its absolute path.")
    ] = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="End everything where the folder holds no files any more.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take in what is new or changed in a folder, and end the validity of what has gone."""
    from services.admin import syncing
    from services.admin.jobs import finish, require_done
    from services.admin.render import print_json

    folder = syncing.folder(directory, collection, name)
    found = syncing.sync(connect(ctx), folder, allow_empty, quiet=as_json)
    if as_json:
        print_json(found.to_json())
        require_done(found.jobs)
        return
    typer.echo(found.told())
    if found.jobs:
        finish(found.jobs, as_json=False)
