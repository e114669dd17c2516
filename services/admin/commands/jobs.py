"""`almanac jobs`: what the workers do."""

from __future__ import annotations

from typing import Annotated

import typer

from services.admin.context import AsJson, connect

app = typer.Typer(help="Ingestion jobs.", no_args_is_help=True)

_Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")]
_State = Annotated[str | None, typer.Option("--state", help="Only those: queued, running, done, failed or cancelled.")]
_Job = Annotated[str, typer.Argument(metavar="JOB", help="Its id.")]


@app.command(name="list")
def list_jobs(ctx: typer.Context, limit: _Limit = 20, state: _State = None, as_json: AsJson = False) -> None:
    """Show the newest jobs."""
    from services.admin.jobs import standing
    from services.admin.render import day, print_json, table

    found = connect(ctx).get("/v1/jobs", limit=limit, state=state)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(job["id"], job["kind"], job["collection"], job["state"]),
            f"{job['done']}/{'?' if job['total'] is None else job['total']}",
            (job.get("counts") or {}).get("failed", 0),
            day(job["created_at"]),
            job.get("error") or standing(job),
        )
        for job in found["jobs"]
    ]
    table(("id", "kind", "collection", "state", "done", "failed", "created", ""), rows)


@app.command()
def show(
    ctx: typer.Context,
    job_id: _Job,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay with it to its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one job and what failed in it."""
    from services.admin.jobs import describe_failure, wait
    from services.admin.render import clean, print_json, table, warn

    gateway = connect(ctx)
    job = gateway.get(f"/v1/jobs/{job_id}")
    if follow:
        [job] = wait(gateway, [job], quiet=as_json)
    if as_json:
        print_json(job)
        return
    shown = {name: value for name, value in job.items() if not isinstance(value, dict | list)}
    table(("", ""), [*shown.items(), *(job.get("counts") or {}).items(), *(job.get("rate") or {}).items()])
    for failure in job.get("failures") or ():
        warn(clean(describe_failure(failure)))


@app.command()
def cancel(ctx: typer.Context, job_id: _Job, as_json: AsJson = False) -> None:
    """Stop a job. What it has committed stays."""
    from services.admin.render import print_json

    found = connect(ctx).post(f"/v1/jobs/{job_id}/cancel", {})
    if as_json:
        print_json(found)
    else:
        typer.echo(f"cancelled after {found['job']['done']} rows")


@app.command()
def retry(
    ctx: typer.Context,
    job_id: _Job,
    failed: Annotated[bool, typer.Option("--failed", help="Only the rows that failed in a job that is done.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a failed or cancelled job go on where it stood."""
    from services.admin import jobs
    from services.admin.render import print_json

    gateway = connect(ctx)
    found = gateway.post(f"/v1/jobs/{job_id}/retry{'?failed=true' if failed else ''}", {})
    if wait:
        jobs.finish(jobs.wait(gateway, [found["job"]], quiet=as_json), as_json)
    elif as_json:
        print_json(found)
    else:
        typer.echo(f"queued; follow with: almanac jobs show {found['job']['id']} --follow")
