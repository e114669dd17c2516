"""When a worker takes a task: once it has a thread for it, and then soon."""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps

_LOOK_SECONDS = 0.05


class LookOften(bootsteps.StartStopStep):  # type: ignore[misc]
    """Has the event loop look for a thread that has come free, which alone does not wake it: it sleeps for a second."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        self.timer = parent.hub.call_repeatedly(_LOOK_SECONDS, _nothing)

    def stop(self, parent: Any) -> None:
        self.timer.cancel()


def take_what_can_run(app: Celery) -> None:
    """What a worker has no thread for stays in its queue: others may take it, and each tenant's turn comes."""
    app.conf.update(worker_prefetch_multiplier=1, worker_disable_prefetch=True)
    app.steps["consumer"].add(LookOften)


def _nothing() -> None:
    """The loop looks by itself, each time it wakes."""
