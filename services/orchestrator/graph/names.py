"""What gateway and worker call by the same name, in one place: tasks are sent by name, across a wall."""

ANSWER_TASK = "almanac.answer"
INGEST_TASK = "almanac.ingest"
ADVANCE_TASK = "almanac.advance"

ANSWER_QUEUE = "answers"
INGEST_QUEUE = "ingest"

LENDING = "almanac-lending"
"""The field of a task's headers that says that the gateway lends the question's vector."""

WORKER_ALIVE_KEY = "almanac:worker:alive"
"""The worker keeps it in Redis while it lives."""

ANSWERING_KEY = "almanac:worker:answering"
"""Likewise, a worker that takes answers."""
