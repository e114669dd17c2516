"""What every measurement does: load, ask a few at a time, and report."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pipelines.evaluation import Targets, holds, read_lines
from services.admin import jobs
from services.admin.client import Gateway, Json
from services.admin.failures import Failed

_CONCURRENCY = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


def require_done(ended: Sequence[Json]) -> None:
    """Raises Failed, with the first reason, unless the jobs have taken in all of it."""
    found = jobs.summary(ended)
    if found["state"] != "done" or found.get("failed"):
        reasons = [job["error"] for job in ended if job.get("error")]
        reasons += [jobs.describe_failure(failure) for failure in found["failures"]]
        raise Failed(f"not all of it could be loaded: {(reasons or ['no reason given'])[0]}")


def ensure(gateway: Gateway, corpus: Path, collection: str) -> None:
    """Ingest the JSONL corpus unless the collection holds as many documents already."""
    wanted = sum(1 for _ in read_lines(corpus))
    held = {one["name"]: one["documents"] for one in gateway.get("/v1/collections")["collections"]}
    if held.get(collection, 0) < wanted:
        sent = jobs.send(gateway, "documents", [(corpus.name, corpus)], {"collection": collection})
        require_done(jobs.wait(gateway, sent))


def together(work: Callable[[Item], Result], items: Sequence[Item], verb: str) -> list[Result]:
    """The results in the order of the items, a few at work at a time, behind a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import track

    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        try:
            results = pool.map(work, items)
            return list(track(results, verb, total=len(items), console=Console(stderr=True)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def report(name: str, figures: dict[str, Any], targets: Targets) -> Json:
    """One measurement as `--json` prints it."""
    return {
        "name": name,
        "machine": machine(),
        "figures": figures,
        "targets": targets,
        "holds": holds(figures, targets),
    }


def machine() -> Json:
    """What the figures were measured on."""
    return {
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
