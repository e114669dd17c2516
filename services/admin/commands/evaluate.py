"""`almanac eval`: measure the running stack against data with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.admin.context import AsJson, connect

if TYPE_CHECKING:
    from services.admin.client import Json

app = typer.Typer(help="Measure the running stack.", no_args_is_help=True)

_Negatives = Annotated[Path | None, typer.Option("--negatives", help="Questions about other texts (SQuAD's format).")]
_Sample = Annotated[int | None, typer.Option("--sample", min=1, help="Only so many of the questions.")]
_Seed = Annotated[int, typer.Option("--seed", help="Of what is sampled and of the wordings.")]


@app.command()
def asof(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Facts as JSONL.")],
    negatives: _Negatives = None,
    sample: _Sample = None,
    seed: _Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Import the facts as histories of their own and ask: at every moment, in other words, about somebody else."""
    from services.admin.inputs import existing
    from services.admin.measure.asof import measure_asof

    others = existing(negatives) if negatives else None
    _print(measure_asof(connect(ctx), existing(file), others, sample, seed), as_json)


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


@app.command()
def answers(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Paragraphs with questions, in SQuAD's format; ingested unless there.")],
    sample: Annotated[int, typer.Option("--sample", min=1, help="How many of the questions are asked.")] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of questions, and of what is left out.")] = 0,
    collection: Annotated[str, typer.Option("--collection", "-c", help="Default: named after the file.")] = "",
    generate: Annotated[bool, typer.Option(help="Let the generator write; else the evidence is quoted.")] = True,
    as_json: AsJson = False,
) -> None:
    """Ask questions with known answers, and some that half of the articles cannot answer."""
    from services.admin.inputs import existing
    from services.admin.measure.answers import measure_answers

    into = collection or f"eval-{file.name.partition('.')[0]}".lower()
    _print(measure_answers(connect(ctx), existing(file), into, sample, seed, generate), as_json)


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
