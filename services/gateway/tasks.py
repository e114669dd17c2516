"""Tasks as messages: Celery's protocol, version 2, in the envelope of kombu's Redis transport.

Celery's own producer takes a thread, two round trips and a printed form of the arguments for each task, and a question
would wait for all of that. A message made here is one command among others of a connection.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery

_celery = Celery("almanac", set_as_current=False)
_PERSISTENT = 2
_NO_PRIORITY = 0


def message(
    task: str, args: Sequence[Any], queue: str, headers: Mapping[str, Any], task_id: str | None = None
) -> bytes:
    """What a worker finds in the queue, a Redis list whose right end is next.

    https://docs.celeryq.dev/en/stable/internals/protocol.html
    """
    task_id = task_id or str(uuid.uuid4())
    given = _celery.amqp.as_task_v2(task_id, task, args, ignore_result=True, argsrepr="", kwargsrepr="")
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(given.body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**given.headers, **headers},
            "properties": {
                **given.properties,
                "delivery_mode": _PERSISTENT,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": _NO_PRIORITY,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()
