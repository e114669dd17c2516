"""`almanac jobs`: what the workers do."""

from __future__ import annotations

from typing import Annotated

import typer

from services.admin.context import AsJson, connect

app = typer.Typer(help="Ingestion jobs.", no_args_is_help=True)

_Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")]


@app.command(name="list")
def list_jobs(ctx: typer.Context, limit: _Limit = 20, as_json: AsJson = False) -> None:
    """Show the newest jobs."""
    from services.admin.render import day, print_json, table

    found = connect(ctx).get("/v1/jobs", limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(job["id"], job["kind"], job["collection"], job["state"]),
            f"{job['done']}/{'?' if job['total'] is None else job['total']}",
            (job.get("counts") or {}).get("failed", 0),
            day(job["created_at"]),
        )
        for job in found["jobs"]
    ]
    table(("id", "kind", "collection", "state", "done", "failed", "created"), rows)


@app.command()
def show(
    ctx: typer.Context, job_id: Annotated[str, typer.Argument(metavar="JOB", help="Its id.")], as_json: AsJson = False
) -> None:
    """Show one job and what failed in it."""
    from services.admin.jobs import describe_failure
    from services.admin.render import clean, print_json, table, warn

    job = connect(ctx).get(f"/v1/jobs/{job_id}")
    if as_json:
        print_json(job)
        return
    shown = {name: value for name, value in job.items() if not isinstance(value, dict | list)}
    table(("", ""), [*shown.items(), *(job.get("counts") or {}).items()])
    for failure in job.get("failures") or ():
        warn(clean(describe_failure(failure)))
