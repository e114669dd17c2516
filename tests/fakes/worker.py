"""The worker's own Celery application and command line; its answers only note that they began, and take their time.

Run as `python -m tests.fakes.worker SECONDS`, which each answer takes.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from redis import Redis

from services.orchestrator.__main__ import arguments
from services.orchestrator.app import create_app
from services.orchestrator.graph.names import ANSWER_TASK
from services.orchestrator.settings import WorkerSettings

BEGAN = "test:began"
"""A list of the texts of the questions, in the order in which their answers began."""


def main(seconds: float) -> None:
    settings = WorkerSettings()
    app, redis = create_app(settings), Redis.from_url(settings.broker_url)

    @app.task(name=ANSWER_TASK)  # type: ignore[untyped-decorator]
    def answer(asked: dict[str, Any], attempt: int) -> None:
        redis.rpush(BEGAN, asked["text"])
        time.sleep(seconds)

    app.worker_main(arguments(settings))


if __name__ == "__main__":
    main(float(sys.argv[1]))
