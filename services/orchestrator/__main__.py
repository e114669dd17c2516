"""The worker process."""

from __future__ import annotations

import logging

from services.common.memory import share_heaps
from services.common.process import begin
from services.orchestrator.app import add_tasks, create_app, start_sweeper
from services.orchestrator.runtime import Runtime
from services.orchestrator.settings import WorkerSettings

_TOLD_OF_EACH_TASK = ("celery.worker.strategy", "celery.app.trace")
"""Celery's loggers that write a line as a task comes and one as it ends: figures and traces tell that, at less cost."""


def main() -> None:
    share_heaps()
    settings = WorkerSettings()
    begin("worker", settings)
    for told in _TOLD_OF_EACH_TASK:
        logging.getLogger(told).setLevel(logging.WARNING)
    runtime = Runtime(settings)
    app = create_app(settings)
    add_tasks(app, runtime)
    start_sweeper(app, runtime)
    try:
        app.worker_main(arguments(settings))
    finally:
        runtime.close()


def arguments(settings: WorkerSettings) -> list[str]:
    """Those of Celery's command line."""
    return [
        "worker",
        "--pool=threads",
        f"--concurrency={settings.worker_threads}",
        f"--queues={','.join(settings.consumed)}",
        f"--loglevel={settings.log_level}",
        "--without-gossip",
        "--without-mingle",
    ]


if __name__ == "__main__":
    main()
