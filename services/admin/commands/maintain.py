"""`almanac erase`: what is removed for good."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from services.admin.context import AsJson, Collection, connect

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
    from services.admin import jobs

    if not yes:
        typer.confirm(f"Erase {doc_id!r} from {collection!r}, with every answer that quotes it, for good?", abort=True)
    gateway = connect(ctx)
    found = gateway.post(f"/v1/documents/{quote(doc_id)}/erase?{urlencode({'collection': collection})}", {})
    jobs.tell(gateway, found, wait, as_json)
