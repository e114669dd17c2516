"""Jobs of the gateway: sent off, followed to their end, and told about."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import typer

from services.admin.client import Gateway, Json
from services.admin.failures import Failed
from services.admin.inputs import Upload, requests, steady
from services.admin.render import clean, print_json, warn

_FINAL = ("done", "failed", "cancelled")
_MOST_FILES = 200
_MOST_BYTES = 64 * 1024 * 1024
_LOOK_SECONDS = 0.5
_PATIENCE = 10
_SHOWN_FAILURES = 50


def send(gateway: Gateway, kind: str, files: Sequence[Upload], fields: Mapping[str, str]) -> list[Json]:
    """Upload the files to /v1/KIND and return the jobs. History goes as one request: its collection must be new.

    A file that cannot be read, or changes meanwhile, is named and left out. Raises Failed where none is left, and for
    a history, which is not to have holes.
    """
    whole = "history" in fields
    batches: Iterable[list[Upload]] = [list(files)] if whole else requests(files, _MOST_FILES, _MOST_BYTES)
    sent = [job for batch in batches if (job := _send(gateway, kind, batch, fields, whole))]
    if files and not sent:
        raise Failed("none of the files could be read")
    return sent


def _send(gateway: Gateway, kind: str, batch: Sequence[Upload], fields: Mapping[str, str], whole: bool) -> Json | None:
    with steady(batch) as (copies, wrong):
        if wrong and whole:
            raise Failed("; ".join(wrong))
        for reason in wrong:
            warn(reason)
        return gateway.upload(f"/v1/{kind}", copies, fields)["job"] if copies else None


def follow(gateway: Gateway, job_id: str) -> Iterator[Json]:
    """The job each time it changes, to its end. A stream that breaks is taken up again for a while."""
    broken = 0
    while True:
        try:
            for event in gateway.events("GET", f"/v1/jobs/{job_id}"):
                if event.name == "progress":
                    broken = 0
                    yield event.data
            job = gateway.get(f"/v1/jobs/{job_id}")
        except Failed:
            broken += 1
            if broken > _PATIENCE:
                raise
        else:
            yield job
            if job["state"] in _FINAL:
                return
        time.sleep(_LOOK_SECONDS)


def wait(gateway: Gateway, jobs: Sequence[Json], quiet: bool = False) -> list[Json]:
    """Follow the jobs one after the other behind a progress bar on standard error; returns them as they ended."""
    ended = []
    with nullcontext() if quiet else _bar() as bar:
        for job in jobs:
            title = f"{job['kind']} → {clean(job['collection'])}"
            task = None if bar is None else bar.add_task(title, total=None, standing="")
            latest = job
            for latest in follow(gateway, job["id"]):
                if bar is not None and task is not None:
                    bar.update(
                        task, total=latest.get("total"), completed=latest.get("done", 0), standing=standing(latest)
                    )
            ended.append(latest)
    return ended


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[standing]}", markup=False), console=Console(stderr=True))


def standing(job: Json) -> str:
    """How fast a job goes, how long it will take, and what it waits for."""
    rate, left = job.get("rate") or {}, job.get("eta_seconds")
    said = [f"{rate['rows']:.3g} rows/s", f"{rate['passages']:.3g} passages/s"] if rate.get("rows") else []
    said += [] if left is None else [f"{_span(left)} left"]
    return " · ".join([*said, *([clean(job["note"])] if job.get("note") else [])])


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def summary(jobs: Sequence[Json]) -> Json:
    """The jobs' counts added up, with every failure and the jobs' ids."""
    counts: dict[str, int] = {}
    for job in jobs:
        for name, count in (job.get("counts") or {}).items():
            counts[name] = counts.get(name, 0) + count
    failures = [failure for job in jobs for failure in job.get("failures") or ()]
    worst = next((job["state"] for job in jobs if job["state"] != "done"), "done")
    return {**counts, "state": worst, "jobs": [job["id"] for job in jobs], "failures": failures}


def finish(jobs: Sequence[Json], as_json: bool) -> None:
    """Tell how the jobs ended. Exit code 1 if one failed as a whole; single rows that failed are only told."""
    found = summary(jobs)
    if as_json:
        print_json(found)
    else:
        _tell(found)
    require_done(jobs)


def tell(gateway: Gateway, found: Json, wait_for_it: bool, as_json: bool) -> None:
    """Print what was found and how its job ended, or how to follow it. Raises Failed where it failed."""
    if wait_for_it:
        [found["job"]] = wait(gateway, [found["job"]], quiet=as_json)
    job = found["job"]
    if as_json:
        print_json(found)
    else:
        typer.echo(job["state"] if wait_for_it else f"queued; follow with: almanac jobs show {job['id']} --follow")
    if wait_for_it:
        require_done([job])


def require_done(jobs: Sequence[Json]) -> None:
    """Raises Failed if one failed as a whole."""
    errors = [f"job {job['id']} {job['state']}: {job.get('error') or 'no reason given'}" for job in jobs]
    bad = [line for job, line in zip(jobs, errors, strict=True) if job["state"] != "done"]
    if bad:
        raise Failed("; ".join(bad))


def _tell(found: Json) -> None:
    counts = {name: count for name, count in found.items() if isinstance(count, int)}
    typer.echo(" · ".join(f"{count} {name}" for name, count in counts.items()) or "nothing to do")
    for failure in found["failures"][:_SHOWN_FAILURES]:
        warn(describe_failure(failure))
    if len(found["failures"]) > _SHOWN_FAILURES:
        warn(f"… and {len(found['failures']) - _SHOWN_FAILURES} more; see `almanac jobs show {found['jobs'][0]}`")


def describe_failure(failure: Mapping[str, Any]) -> str:
    """Where a row came from and what was wrong with it."""
    where = str(failure.get("source") or "")
    if failure.get("line"):
        where += f", line {failure['line']}"
    if failure.get("id"):
        where += f" ({failure['id']})"
    return f"{where}: {failure.get('reason')}"
