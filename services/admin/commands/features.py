"""`almanac features`: definitions, the online store, training sets, and whether all is well."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from services.admin.context import AsJson, Collection, connect

app = typer.Typer(help="Features: definitions, online store, training sets, checks.", no_args_is_help=True)

_ROWS = 10_000
"""Rows of a training set that are asked for in one request."""
_UNITS = {"h": 1, "d": 24, "w": 168}


def _hours(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,3}[hdw]", text):
        raise typer.BadParameter("a number of hours, days or weeks, such as 24h, 7d or 4w")
    return text


_Window = Annotated[str, typer.Option("--window", callback=_hours, help="What is checked: so long until now.")]
_Reference = Annotated[
    str, typer.Option("--reference", callback=_hours, help="What it is compared with: so long before that.")
]


@app.command()
def apply(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Apply the definitions in feature_repo; a type change that breaks history is refused."""
    from services.admin.render import clean, print_json

    found = connect(ctx).post("/v1/admin/features/apply", {"dry_run": dry_run})
    if as_json:
        print_json(found)
        return
    for line in found["changes"]:
        typer.echo(clean(line))


@app.command()
def materialize(
    ctx: typer.Context,
    view: Annotated[str | None, typer.Argument(metavar="[VIEW]", help="Only this view.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring Feast's online store up to now."""
    from services.admin.render import day, print_json, table

    found = connect(ctx).post("/v1/admin/features/materialize", {"view": view})
    if as_json:
        print_json(found)
    else:
        table(("view", "up to"), [(name, day(at)) for name, at in found["materialized"].items()])


@app.command(name="list")
def list_views(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the views, what they hold, and up to when."""
    from services.admin.render import day, print_json, table

    found = connect(ctx).get("/v1/admin/features")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(view["name"], view["rows"], f"{view['bytes'] / 1e6:.1f} MB", len(view["fields"])),
            day(view["materialized"]) or "never",
            ", ".join(f"{name} {day(mark)}" for name, mark in view["watermarks"].items()),
        )
        for view in found["views"]
    ]
    table(("view", "rows", "size", "fields", "online store", "record applied up to"), rows)


@app.command()
def check(
    ctx: typer.Context,
    collection: Collection = "default",
    window: _Window = "24h",
    reference: _Reference = "30d",
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write it with plots, as .html or .md.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check freshness, values, and whether questions and scores have shifted; exit code 1 if anything is wrong."""
    from services.admin import check_report
    from services.admin.render import clean, print_json, warn

    if report is not None:
        check_report.require_known(report)
    hours = {"window_hours": _in_hours(window), "reference_hours": _in_hours(reference)}
    found = connect(ctx).get("/v1/admin/features/check", collection=collection, **hours)
    if report is not None:
        check_report.write(report, found)
    if as_json:
        print_json(found)
    else:
        typer.echo(clean(check_report.summary(found)))
        for fault in found["faults"]:
            warn(fault)
    if not found["holds"]:
        raise typer.Exit(1)


@app.command()
def training(
    ctx: typer.Context,
    view: Annotated[str, typer.Argument(metavar="VIEW", help="The view.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL of {entity, at}.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write JSONL of {entity, at, found, values}.")],
    collection: Collection = "default",
) -> None:
    """Join what held for each entity at its instant, as known then: a set for training or evaluation."""
    import json

    from pipelines.evaluation import read_lines
    from services.admin.inputs import existing
    from services.common.batches import batched

    gateway, written = connect(ctx), 0
    lines = ({"entity": str(row["entity"]), "at": row["at"]} for _, row in read_lines(existing(file)))
    with out.open("w") as target:
        for rows in batched(lines, _ROWS):
            body = {"view": view, "collection": collection, "rows": rows}
            for row in gateway.post("/v1/admin/features/training", body)["rows"]:
                target.write(json.dumps(row, ensure_ascii=False) + "\n")
                written += 1
    typer.echo(f"{written} rows in {out}")


def _in_hours(window: str) -> int:
    return int(window[:-1]) * _UNITS[window[-1]]
