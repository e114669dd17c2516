"""`almanac ingest` and `almanac facts load`: what goes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from services.admin.context import AsJson, Collection, ValidFrom, connect

if TYPE_CHECKING:
    from services.admin.inputs import Upload

facts = typer.Typer(help="Curated facts.", no_args_is_help=True)

_Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...", help="Files, directories or globs: .md .txt .html .pdf .docx .jsonl(.gz) .csv .parquet."
    ),
]
_File = Annotated[str, typer.Argument(metavar="FILE", help="A .jsonl(.gz), .csv or .parquet file.")]
_History = Annotated[
    bool, typer.Option("--history", help="Rows carry recorded_at, sorted; the collection must be new.")
]


def ingest(
    ctx: typer.Context,
    paths: _Paths,
    collection: Collection = "default",
    valid_from: ValidFrom = None,
    history: _History = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add documents to a collection."""
    from services.admin.inputs import uploads

    fields = {"valid_from": valid_from} if valid_from else {}
    _send(ctx, "documents", uploads(paths), _fields(collection, history) | fields, wait, as_json)


@facts.command(name="load")
def load(
    ctx: typer.Context,
    file: _File,
    collection: Collection = "default",
    history: _History = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Add facts to a collection."""
    from services.admin.inputs import FACTS, uploads

    _send(ctx, "facts", uploads([file], FACTS), _fields(collection, history), wait, as_json)


def _fields(collection: str, history: bool) -> dict[str, str]:
    return {"collection": collection, **({"history": "true"} if history else {})}


def _send(
    ctx: typer.Context, kind: str, files: list[Upload], fields: dict[str, str], wait: bool, as_json: bool
) -> None:
    from services.admin import jobs
    from services.admin.render import print_json

    gateway = connect(ctx)
    sent = jobs.send(gateway, kind, files, fields)
    if wait:
        jobs.finish(jobs.wait(gateway, sent, quiet=as_json), as_json)
    elif as_json:
        print_json({"jobs": sent})
    else:
        typer.echo(f"{len(files)} files sent; follow with: almanac jobs show {' '.join(job['id'] for job in sent)}")
