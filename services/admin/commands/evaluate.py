"""`almanac eval`: measure the running stack against data with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.admin.context import AsJson, Collection, connect

if TYPE_CHECKING:
    from services.admin.client import Json

app = typer.Typer(help="Measure the running stack.", no_args_is_help=True)

_Seed = Annotated[int, typer.Option("--seed", help="Of the choice of names that are swapped in.")]


@app.command()
def asof(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Facts as JSONL, the ones the collection holds.")],
    collection: Collection = "default",
    load: Annotated[bool, typer.Option("--load", help="Load the facts into the collection first.")] = False,
    seed: _Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Ask every fact at its moment, every gap, and every question about somebody else."""
    from services.admin.inputs import existing
    from services.admin.measure.asof import measure_asof

    _print(measure_asof(connect(ctx), existing(file), collection, load, seed), as_json)


@app.command()
def retrieval(
    ctx: typer.Context,
    corpus: Annotated[Path, typer.Option(help="Documents as JSONL, gzipped or not; ingested unless they are there.")],
    queries: Annotated[Path, typer.Option(help="JSONL of {id, text}.")],
    qrels: Annotated[Path, typer.Option(help="Tab-separated query_id, doc_id, relevance.")],
    collection: Annotated[str, typer.Option("--collection", "-c", help="Default: named after the corpus.")] = "",
    as_json: AsJson = False,
) -> None:
    """Search for every judged query and compare the ranking with the judgements."""
    from services.admin.inputs import existing
    from services.admin.measure.retrieval import measure_retrieval

    for path in (corpus, queries, qrels):
        existing(path)
    into = collection or f"eval-{corpus.resolve().parent.name}".lower()
    _print(measure_retrieval(connect(ctx), corpus, queries, qrels, into), as_json)


def _print(report: Json, as_json: bool) -> None:
    from services.admin.render import print_json, table

    if as_json:
        print_json(report)
        return
    rows = [(name, value, _target(report["targets"].get(name))) for name, value in report["figures"].items()]
    table(("figure", report["name"], "target"), rows)
    typer.echo("all targets hold" if report["holds"] else "a target is missed")


def _target(target: dict[str, Any] | None) -> str:
    signs = {"min": "≥", "max": "≤"}
    return ", ".join(f"{signs[kind]} {value}" for kind, value in (target or {}).items())
